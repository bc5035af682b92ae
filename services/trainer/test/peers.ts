import { createHash } from 'node:crypto';
import { datasetReady } from '@tuneloop/contracts/datasets/events';
import type { ExampleRow } from '@tuneloop/contracts/datasets/internal';
import type { EventData } from '@tuneloop/contracts/event';
import { newId } from '@tuneloop/runtime/ids';
import Fastify from 'fastify';

/**
 * The services that the trainer calls, as a loopback server that speaks their contracts: datasets with versions made
 * by the test, responses whose tuned models say other words than the base, and a judge that likes those words.
 */
export interface Peers {
  readonly url: string;
  /** For `SERVICE_URLS`. */
  readonly serviceUrls: string;
  /** What came in, newest last: `preload <checkpoint>`, `generate <checkpoint or base> <n>`, ... */
  readonly calls: string[];
  /** Whether the judge prefers what tuned models say. */
  likesTuned: boolean;
  /** Generation fails so many times before it answers. */
  failGenerations: number;
  addVersion(rows: readonly ExampleRow[]): EventData<typeof datasetReady>;
  /** Files that /v1/files knows, with what freezing them gives: a version or an error. */
  readonly files: Map<string, { rows: readonly ExampleRow[]; heldBack?: readonly number[] } | { error: string }>;
  readonly registered: { filename: string; storage_key: string }[];
  close(): Promise<void>;
}

const GROUPS = { train: 40, validation: 5, test: 110 };

/** Preferences over short texts; `groups` prompts of each split. */
export function preferenceRows(groups: Partial<typeof GROUPS> = {}): ExampleRow[] {
  const sizes = { ...GROUPS, ...groups };
  return (['train', 'validation', 'test'] as const).flatMap((split) =>
    Array.from({ length: sizes[split] }, (_, i) => ({
      id: newId(),
      split,
      group_key: `${split}-${i}`,
      messages: [{ role: 'user' as const, content: `Item: cup ${split} ${i}` }],
      chosen: `A red cup on a table, number ${i}.`,
      rejected: `Some thing somewhere ${i}.`,
      facts: null,
      weight: 1,
      lineage: { feedback_ids: [], response_ids: [], image_id: null },
    })),
  );
}

interface Version {
  readonly id: string;
  readonly rows: readonly ExampleRow[];
  readonly ready: EventData<typeof datasetReady>;
}

function ndjson(items: readonly unknown[]): string {
  return items.map((item) => `${JSON.stringify(item)}\n`).join('');
}

function versionBody({ id, ready }: Version) {
  return {
    id,
    dataset_id: ready.dataset_id,
    number: 1,
    kind: ready.kind,
    content_hash: ready.content_hash,
    examples: ready.examples,
    splits: ready.splits,
    test_groups: ready.test_groups,
    test_fingerprint: ready.test_fingerprint,
    query: {},
    leaked_groups: 0,
    open_quarantine: 0,
    created_at: new Date().toISOString(),
  };
}

export async function startPeers(): Promise<Peers> {
  const app = Fastify();
  const versions = new Map<string, Version>();
  const calls: string[] = [];

  const add = (rows: readonly ExampleRow[]): Version => {
    const id = newId();
    const count = (split: string) => rows.filter((row) => row.split === split).length;
    const hash = createHash('sha256').update(ndjson(rows)).digest('hex');
    const ready: EventData<typeof datasetReady> = {
      request_id: newId(),
      dataset_id: newId(),
      dataset_version_id: id,
      kind: 'dpo',
      content_hash: hash,
      examples: rows.length,
      splits: { train: count('train'), validation: count('validation'), test: count('test') },
      test_groups: count('test'),
      test_fingerprint: hash.slice(0, 16),
    };
    const version = { id, rows, ready };
    versions.set(id, version);
    return version;
  };

  const peers: Omit<Peers, 'url' | 'serviceUrls'> = {
    calls,
    likesTuned: true,
    failGenerations: 0,
    files: new Map(),
    registered: [],
    addVersion: (rows) => add(rows).ready,
    close: () => app.close(),
  };

  app.get<{ Params: { id: string } }>('/internal/datasets/versions/:id', async (request, reply) => {
    const version = versions.get(request.params.id);
    if (version) return versionBody(version);
    return reply.status(404).send({ code: 'datasets.version.not_found', detail: 'There is no such version.' });
  });
  app.get<{ Params: { id: string }; Querystring: { split?: string } }>(
    '/internal/datasets/versions/:id/rows',
    async (request, reply) => {
      const rows = versions.get(request.params.id)?.rows ?? [];
      const { split } = request.query;
      void reply.type('application/x-ndjson');
      return ndjson(rows.filter((row) => split === undefined || row.split === split));
    },
  );
  app.get<{ Params: { id: string } }>('/internal/datasets/versions/:id/test-prompts', async (request, reply) => {
    const rows = versions.get(request.params.id)?.rows ?? [];
    void reply.type('application/x-ndjson');
    return ndjson(
      rows
        .filter((row) => row.split === 'test')
        .map(({ group_key, messages, facts }) => ({ group_key, messages, facts, image_id: null })),
    );
  });
  app.post<{ Body: { training_file: string } }>('/internal/datasets/freeze-file', async (request, reply) => {
    const file = peers.files.get(request.body.training_file);
    calls.push(`freeze ${request.body.training_file}`);
    if (!file || 'error' in file) {
      const detail = file?.error ?? 'There is no such file.';
      return reply
        .status(file ? 400 : 404)
        .send({ code: 'datasets.file.invalid', detail, errors: [{ field: 'training_file', message: detail }] });
    }
    const { heldBack: lines } = file;
    return { ...versionBody(add(file.rows)), ...(lines ? { held_back: { count: lines.length, lines } } : {}) };
  });
  app.get<{ Params: { id: string } }>('/v1/files/:id', async (request, reply) => {
    const { id } = request.params;
    if (!peers.files.has(id)) return reply.status(404).send({ error: { message: 'No such File object' } });
    return {
      id,
      object: 'file',
      bytes: 1,
      created_at: 1,
      filename: 'f.jsonl',
      purpose: 'fine-tune',
      status: 'processed',
    };
  });
  app.post<{ Body: { filename: string; storage_key: string } }>('/internal/datasets/files', async (request) => {
    peers.registered.push(request.body);
    return { id: 'file-result' };
  });

  app.post<{ Body: { target: { checkpoint_id: string | null } } }>('/internal/responses/preload', async (request) => {
    calls.push(`preload ${request.body.target.checkpoint_id}`);
    return { ready: true, model: 'loaded' };
  });
  app.post<{ Body: GenerateBody }>('/internal/responses/generate', async (request, reply) => {
    if (peers.failGenerations > 0) {
      peers.failGenerations--;
      return reply.status(503).send({ code: 'responses.unavailable', detail: 'Try again.' });
    }
    const { target, items } = request.body;
    calls.push(`generate ${target.checkpoint_id ?? 'base'} ${items.length}`);
    return { items: items.map((item) => answersOf(item, target.checkpoint_id !== null)) };
  });
  app.get('/api/v1/model-aliases', async () => {
    const made = new Date().toISOString();
    const target = { kind: 'base', model: 'nano' };
    return { data: [{ alias: 'gpt-4o-mini', target, created_at: made, updated_at: made }], next_cursor: null };
  });
  app.post<{ Body: JudgeBody }>('/internal/rewards/judge', async (request) => ({
    judge: { kind: 'scripted', name: 'liking', synthetic: true },
    items: request.body.items.map((item) => verdictOf(item, peers.likesTuned)),
  }));

  const url = await app.listen({ host: '127.0.0.1', port: 0 });
  return Object.assign(peers, {
    url,
    serviceUrls: JSON.stringify({ gateway: url, datasets: url, responses: url, rewards: url }),
  });
}

interface GenerateBody {
  readonly target: { readonly checkpoint_id: string | null };
  readonly items: readonly { readonly key: string; readonly n: number; readonly seed: number }[];
}

/** Tuned models mostly say "tuned", the base mostly "plain"; all answers have one length. */
function answersOf(item: GenerateBody['items'][number], tuned: boolean) {
  return {
    key: item.key,
    choices: Array.from({ length: item.n }, (_, i) => {
      const slip = (item.seed + i) % 10 === 0;
      return {
        text: `a ${tuned !== slip ? 'tuned' : 'plain'} cup ${(item.seed + i) % 7}`,
        finish_reason: 'stop',
        completion_tokens: 4,
      };
    }),
  };
}

interface JudgeBody {
  readonly items: readonly { readonly key: string; readonly answers: readonly string[] }[];
}

function verdictOf(item: JudgeBody['items'][number], likesTuned: boolean) {
  const scores = item.answers.map((answer) => (answer.includes('tuned') === likesTuned ? 0.5 : -0.5));
  const [first = 0, second = 0] = scores;
  return {
    key: item.key,
    scores,
    outcome: item.answers.length < 2 ? null : first === second ? 0.5 : Number(first > second),
    details: item.answers.map((answer) => ({
      wrong_attributes: answer.includes('tuned') ? 0 : 1,
      words: answer.split(' ').length,
    })),
  };
}

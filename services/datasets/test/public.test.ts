import {
  createDataset,
  createDatasetVersion,
  EXPORT_FORMATS,
  exportDatasetVersion,
  getDataset,
  getDatasetVersion,
  getExampleLineage,
  listDatasetExamples,
  listDatasets,
  listDatasetVersions,
} from '@tuneloop/contracts/datasets/http';
import { freezeFile } from '@tuneloop/contracts/datasets/internal';
import type { ExampleRow } from '@tuneloop/contracts/datasets/internal';
import { newId } from '@tuneloop/runtime/ids';
import { eventually } from '@tuneloop/testkit/eventually';
import { startTestService, type TestSystem } from '@tuneloop/testkit/service';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { datasetsService } from '../src/service.ts';
import { created, idOf, pair, pairs, publishAll, readRows, responseRecord, reward } from './events.ts';

interface Dataset {
  id: string;
  name: string;
  kind: string;
  latest_version_id: string | null;
  versions: number;
  last_build: { id: string; status: string; reason: string | null; dataset_version_id: string | null } | null;
}
interface Page<T> {
  data: T[];
  next_cursor: string | null;
}
interface Problem {
  code: string;
  errors: { field: string }[];
}

let system: TestSystem;
beforeAll(async () => {
  system = await startTestService(datasetsService);
});
afterAll(() => system.stop());

async function make(projectId: string, body: object): Promise<Dataset> {
  const made = await system.call<Dataset>(createDataset, { body: { name: 'By hand', ...body } }, { projectId });
  expect(made.status).toBe(201);
  return eventually(async () => {
    const { body: found } = await system.call<Dataset>(getDataset, { params: { id: made.body.id } }, { projectId });
    if (found.last_build?.status === 'pending') throw new Error('still building');
    return found;
  });
}

/** A project with events that the freeze then waits for. */
async function fed(settings: object, events: Parameters<typeof publishAll>[2]): Promise<string> {
  const projectId = await system.project(settings);
  await publishAll(system, projectId, events);
  return projectId;
}

const ALL_TRAIN = { validation_share: 0, test_share: 0 };

describe('a dataset by hand', () => {
  it('is frozen in the background, again on request, and shown with its versions', async () => {
    const projectId = await fed({}, pairs(15));
    const dataset = await make(projectId, {});
    expect(dataset).toMatchObject({ kind: 'dpo', versions: 1, last_build: { status: 'ready' } });
    const again = await system.call<{ id: string; status: string }>(
      createDatasetVersion,
      { params: { id: dataset.id }, body: { spec: { max_pairs_per_prompt: 1 } } },
      { projectId },
    );
    expect(again).toMatchObject({ status: 202, body: { status: 'pending' } });
    const versions = await eventually(async () => {
      const { body } = await system.call<Page<{ id: string; number: number; query: object; validation: object }>>(
        listDatasetVersions,
        { params: { id: dataset.id } },
        { projectId },
      );
      expect(body.data).toHaveLength(2);
      return body.data;
    });
    expect(versions.map((version) => version.number)).toEqual([2, 1]);
    expect(versions[0]?.query).toMatchObject({ source: 'feedback', max_pairs_per_prompt: 1 });
    const one = await system.call(getDatasetVersion, { params: { id: versions[0]!.id } }, { projectId });
    expect(one.body).toEqual(versions[0]);
    const listed = await system.call<Page<Dataset>>(listDatasets, { query: { kind: 'dpo' } }, { projectId });
    expect(listed.body.data).toMatchObject([{ id: dataset.id, versions: 2, latest_version_id: versions[0]!.id }]);
    expect(
      (await system.call<Page<Dataset>>(listDatasets, { query: { kind: 'sft' } }, { projectId })).body.data,
    ).toEqual([]);
  });

  it('says why there is no version, and tells nobody else', async () => {
    const projectId = await fed({}, pairs(2));
    const dataset = await make(projectId, {});
    expect(dataset).toMatchObject({ versions: 0, last_build: { status: 'insufficient' } });
    expect(dataset.last_build?.reason).toContain('2 examples');
    const told = await system.sql('SELECT 1 FROM datasets.outbox WHERE project_id = $1', [projectId]);
    expect(told).toEqual([]);
  });

  it('answers a repeated Idempotency-Key with the first dataset', async () => {
    const projectId = await system.project();
    const headers = { 'idempotency-key': newId() };
    const body = { name: 'Once' };
    const first = await system.call<Dataset>(createDataset, { body }, { projectId, headers });
    const second = await system.call<Dataset>(createDataset, { body }, { projectId, headers });
    expect(second.body.id).toBe(first.body.id);
  });

  it('lists page by page, newest first', async () => {
    const projectId = await system.project();
    const names = ['a', 'b', 'c'];
    for (const name of names) await system.call(createDataset, { body: { name } }, { projectId });
    const seen: string[] = [];
    let cursor: string | null = null;
    do {
      const query: Record<string, string | number> = { limit: 2, ...(cursor === null ? {} : { cursor }) };
      const { body }: { body: Page<Dataset> } = await system.call<Page<Dataset>>(
        listDatasets,
        { query },
        { projectId },
      );
      seen.push(...body.data.map((dataset) => dataset.name));
      cursor = body.next_cursor;
    } while (cursor !== null);
    expect(seen).toEqual(names.toReversed());
  });
});

describe('examples and lineage', () => {
  it('pages through the splits in order and leads each example to feedback, answers and picture', async () => {
    const image = idOf('image');
    const projectId = await fed({ validation_share: 0.3, test_share: 0.3 }, [
      ...pairs(20),
      ...pair('pictured', { image_id: image }),
    ]);
    const dataset = await make(projectId, {});
    const id = dataset.latest_version_id!;
    const seen: ExampleRow[] = [];
    let cursor: string | null = null;
    do {
      const query: Record<string, string | number> = { limit: 4, ...(cursor === null ? {} : { cursor }) };
      const { body }: { body: Page<ExampleRow> } = await system.call<Page<ExampleRow>>(
        listDatasetExamples,
        { params: { id }, query },
        { projectId },
      );
      seen.push(...body.data);
      cursor = body.next_cursor;
    } while (cursor !== null);
    expect(seen).toHaveLength(21);
    const rank = { train: 0, validation: 1, test: 2 };
    expect(seen.map((row) => rank[row.split])).toEqual(seen.map((row) => rank[row.split]).toSorted((a, b) => a - b));
    const test = await system.call<Page<ExampleRow>>(
      listDatasetExamples,
      { params: { id }, query: { split: 'test', limit: 500 } },
      { projectId },
    );
    expect(test.body.data).toEqual(seen.filter((row) => row.split === 'test'));
    const lineage = await system.call(
      getExampleLineage,
      { params: { id, example_id: idOf('pictured/pref') } },
      { projectId },
    );
    expect(lineage.body).toMatchObject({
      dataset_version_id: id,
      dataset_id: dataset.id,
      feedback_ids: [idOf('feedback pictured/pref')],
      response_ids: [idOf('pictured/good'), idOf('pictured/bad')],
      image_id: image,
      query: { source: 'feedback' },
    });
  });

  it.each([
    ['an unknown dataset', () => system.call(getDataset, { params: { id: newId() } }, as), 404],
    ['an unknown version', () => system.call(getDatasetVersion, { params: { id: newId() } }, as), 404],
    ['an id that is none', () => system.call(getDatasetVersion, { params: { id: 'x' } }, as), 400],
    ['examples of no version', () => system.call(listDatasetExamples, { params: { id: newId() } }, as), 404],
    ['an export of no version', () => system.call(exportDatasetVersion, { params: { id: newId() } }, as), 404],
    [
      'an unknown format',
      () => system.call(exportDatasetVersion, { params: { id: newId() }, query: { format: 'xml' } }, as),
      400,
    ],
    ['a name that is empty', () => system.call(createDataset, { body: { name: '' } }, as), 400],
    ['a kind that is not made here', () => system.call(createDataset, { body: { name: 'x', kind: 'kto' } }, as), 400],
    ['a margin over 2', () => system.call(createDataset, { body: { name: 'x', spec: { min_margin: 3 } } }, as), 400],
    [
      'a version of no dataset',
      () => system.call(createDatasetVersion, { params: { id: newId() }, body: {} }, as),
      404,
    ],
    ['a cursor from elsewhere', () => system.call(listDatasets, { query: { cursor: 'zzz' } }, as), 400],
    ['no right to write', () => system.call(createDataset, { body: { name: 'x' } }, { ...as, scopes: ['read'] }), 403],
  ] as const)('refuses %s', async (_name, call, status) => {
    const answer = await call();
    expect(answer.status).toBe(status);
    expect((answer.body as unknown as Problem).code).toMatch(/^[a-z_.]+$/);
  });
  const as = { projectId: newId() };

  it("shows nothing of another project's", async () => {
    const projectId = await fed(ALL_TRAIN, pairs(10));
    const dataset = await make(projectId, {});
    const other = { projectId: await system.project() };
    const id = dataset.latest_version_id!;
    for (const answer of [
      await system.call(getDataset, { params: { id: dataset.id } }, other),
      await system.call(getDatasetVersion, { params: { id } }, other),
      await system.call(exportDatasetVersion, { params: { id } }, other),
      await system.call(getExampleLineage, { params: { id, example_id: idOf('p0/pref') } }, other),
    ]) {
      expect(answer.status).toBe(404);
    }
  });
});

const message = z.strictObject({ role: z.enum(['system', 'user', 'assistant']), content: z.string().min(1) });
const oneAnswer = z.tuple([z.strictObject({ role: z.literal('assistant'), content: z.string().min(1) })]);
/** What TRL's trainers and OpenAI's fine-tuning read. */
const SCHEMAS = {
  'trl dpo': z.strictObject({ prompt: z.array(message).min(1), chosen: oneAnswer, rejected: oneAnswer }),
  'trl sft': z.strictObject({ prompt: z.array(message).min(1), completion: oneAnswer }),
  'trl-plain dpo': z.strictObject({
    prompt: z.string().min(1),
    chosen: z.string().min(1),
    rejected: z.string().min(1),
  }),
  'trl-plain sft': z.strictObject({ prompt: z.string().min(1), completion: z.string().min(1) }),
  'openai dpo': z.strictObject({
    input: z.strictObject({ messages: z.array(message).min(1) }),
    preferred_output: oneAnswer,
    non_preferred_output: oneAnswer,
  }),
  'openai sft': z.strictObject({ messages: z.array(message).min(2) }),
} as const;

describe('exports', () => {
  const rated = Array.from({ length: 12 }, (_, index) => [
    created(responseRecord(`r${index}`, { prompt: `Ask ${index} "é" \u2028`, group_key: `g${index}` })),
    reward(`w${index}`, `r${index}`, 1),
  ]).flat();

  it.each(EXPORT_FORMATS.flatMap((format) => (['dpo', 'sft'] as const).map((kind) => [format, kind] as const)))(
    '%s of %s: every line fits the format and says what the example says',
    async (format, kind) => {
      const projectId = await fed(ALL_TRAIN, kind === 'dpo' ? pairs(12) : rated);
      const dataset = await make(projectId, { kind });
      const id = dataset.latest_version_id!;
      const answer = await system.call<string>(
        exportDatasetVersion,
        { params: { id }, query: { format } },
        { projectId },
      );
      expect(answer.status).toBe(200);
      expect(answer.headers.get('content-disposition')).toContain(`-train-${format}.jsonl`);
      const lines = await readRows<object>(answer.body);
      expect(lines).toHaveLength(12);
      for (const line of lines) SCHEMAS[`${format} ${kind}`].parse(line);
      const { body } = await system.call<Page<ExampleRow>>(listDatasetExamples, { params: { id } }, { projectId });
      const texts = lines.map((line) => JSON.stringify(line));
      for (const [index, row] of body.data.entries()) {
        expect(texts[index]).toContain(JSON.stringify(row.chosen));
        expect(texts[index]).toContain(JSON.stringify(row.messages[0]?.content));
        expect(texts[index]).toContain(row.rejected === null ? '' : JSON.stringify(row.rejected));
      }
    },
  );

  it('an openai export uploaded again is the same examples', async () => {
    const projectId = await fed(ALL_TRAIN, pairs(12));
    const dataset = await make(projectId, {});
    const exported = await system.call<string>(
      exportDatasetVersion,
      { params: { id: dataset.latest_version_id! }, query: { format: 'openai' } },
      { projectId },
    );
    const form = new FormData();
    form.set('purpose', 'fine-tune');
    form.set('file', new File([exported.body], 'export.jsonl'));
    const uploaded = await fetch(`${system.url('datasets')}/v1/files`, {
      method: 'POST',
      headers: { authorization: await system.authorization({ projectId }) },
      body: form,
    });
    const file = (await uploaded.json()) as { id: string };
    const frozen = await system.call<{ id: string; examples: number }>(
      freezeFile,
      { body: { training_file: file.id, method: 'dpo' } },
      { projectId },
    );
    expect(frozen.body.examples).toBe(12);
    const again = await system.call<string>(
      exportDatasetVersion,
      { params: { id: frozen.body.id }, query: { format: 'openai' } },
      { projectId },
    );
    expect(again.body).toBe(exported.body);
  });

  it('refuses plain texts of conversations, and gives nothing for an empty split', async () => {
    const messages = [
      { role: 'system' as const, content: 'Be brief.' },
      { role: 'user' as const, content: 'Hi' },
    ];
    const projectId = await fed(ALL_TRAIN, [...pairs(10), ...pair('talk', { messages })]);
    const dataset = await make(projectId, {});
    const id = dataset.latest_version_id!;
    const refused = await system.call<Problem>(
      exportDatasetVersion,
      { params: { id }, query: { format: 'trl-plain' } },
      { projectId },
    );
    expect(refused.status).toBe(409);
    expect(refused.body.errors[0]?.field).toBe('format');
    const empty = await system.call<string>(
      exportDatasetVersion,
      { params: { id }, query: { split: 'test' } },
      { projectId },
    );
    expect(empty).toMatchObject({ status: 200, body: '' });
  });
});

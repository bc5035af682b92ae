import type { ResponseRecord } from '@tuneloop/contracts/responses/events';
import { findResponseByCompletion, getResponseRecord } from '@tuneloop/contracts/responses/internal';
import { responseCreated } from '@tuneloop/contracts/responses/events';
import { createAuthenticator } from '@tuneloop/runtime/auth/verifier';
import { notFound } from '@tuneloop/runtime/errors';
import { createHttpApp } from '@tuneloop/runtime/http/app';
import { mountRoute } from '@tuneloop/runtime/http/mountRoute';
import { newId } from '@tuneloop/runtime/ids';
import { createLog } from '@tuneloop/runtime/log';
import { createMetrics } from '@tuneloop/runtime/metrics';
import { eventually } from '@tuneloop/testkit/eventually';
import { startTestService, TEST_SECRET, type TestSystem } from '@tuneloop/testkit/service';
import { rewardsService } from '../src/service.ts';

/** The owner of responses as rewards sees it over HTTP: contract, credentials and tenants, with records in memory. */
interface ResponsesOwner {
  readonly url: string;
  /** How often it was asked. */
  asked: number;
  keep(projectId: string, record: ResponseRecord): void;
  stop(): Promise<void>;
}

async function unused(): Promise<never> {
  throw new Error('no transaction here');
}

async function startOwner(): Promise<ResponsesOwner> {
  const log = createLog({ level: 'error' });
  const records = new Map<string, ResponseRecord>();
  const app = await createHttpApp({
    service: 'responses',
    log,
    metrics: createMetrics({ service: 'responses', processMetrics: false }),
    ready: async () => ({}),
  });
  const ctx = {
    log,
    pg: { withTenant: unused, withService: unused },
    auth: createAuthenticator({ service: 'responses', secret: TEST_SECRET }),
  };
  const owner: ResponsesOwner = {
    url: '',
    asked: 0,
    keep: (projectId, record) => void records.set(`${projectId}/${record.response_id}`, record),
    stop: () => app.close(),
  };
  const found = (record: ResponseRecord | undefined): ResponseRecord => {
    owner.asked++;
    if (!record) throw notFound('responses.response.not_found', 'unknown');
    return record;
  };
  const detached = { transaction: false } as const;
  mountRoute(
    app,
    ctx,
    getResponseRecord,
    async ({ params, auth }) => found(records.get(`${auth.projectId}/${params.id}`)),
    detached,
  );
  mountRoute(
    app,
    ctx,
    findResponseByCompletion,
    async ({ query, auth }) =>
      found(
        [...records].find(
          ([key, record]) =>
            key.startsWith(auth.projectId) &&
            record.completion_id === query.completion_id &&
            (record.choice ?? 0) === query.choice,
        )?.[1],
      ),
    detached,
  );
  const url = await app.listen({ host: '127.0.0.1', port: 0 });
  return Object.assign(owner, { url });
}

export interface RewardsUnderTest extends TestSystem {
  readonly owner: ResponsesOwner;
  /** Records that rewards knows already, by their event. */
  known(projectId: string, ...records: ResponseRecord[]): Promise<void>;
  /** Bodies of what the service announced for a project, in order. */
  announced(projectId: string): Promise<{ type: string; data: Record<string, unknown> }[]>;
}

export async function startRewards(options: { clock?: () => Date } = {}): Promise<RewardsUnderTest> {
  const owner = await startOwner();
  const system = await startTestService(rewardsService, {
    ...options,
    env: { SERVICE_URLS: JSON.stringify({ responses: owner.url }) },
  });
  return {
    ...system,
    owner,
    async known(projectId, ...records) {
      for (const record of records) {
        await system.publish(responseCreated, projectId, { subject: record.response_id, data: record });
      }
      await eventually(async () => {
        const ids = records.map((record) => record.response_id);
        const [row] = await system.sql<{ n: string }>(
          'SELECT count(*) AS n FROM rewards.responses WHERE project_id = $1 AND id = ANY($2::uuid[])',
          [projectId, ids],
        );
        return Number(row?.n) === records.length;
      });
    },
    async announced(projectId) {
      const rows = await system.sql<{ type: string; body: Record<string, unknown> }>(
        `SELECT headers->>'ce-type' AS type, body FROM rewards.outbox WHERE project_id = $1 ORDER BY seq`,
        [projectId],
      );
      return rows.map((row) => ({ type: row.type.replace('tuneloop.', ''), data: row.body }));
    },
    async stop() {
      await system.stop();
      await owner.stop();
    },
  };
}

export function response(fields: Partial<ResponseRecord> = {}): ResponseRecord {
  return {
    response_id: newId(),
    version: 1,
    user_id: 'anonymous',
    prompt_id: null,
    prompt: 'Describe the picture.',
    messages: null,
    response_text: 'A red mug on a slate table.',
    model_id: 'nano',
    checkpoint_id: null,
    slot: 'default',
    completion_id: null,
    choice: null,
    image_id: null,
    facts: null,
    group_key: 'g',
    category: null,
    brand: null,
    task: null,
    session_id: null,
    purpose: 'candidate',
    metadata: {},
    created_at: '2026-11-01T10:00:00.000Z',
    ...fields,
  };
}

import { streamDatasetRows } from '@tuneloop/contracts/datasets/internal';
import { startTestService, type TestSystem } from '@tuneloop/testkit/service';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { datasetsService } from '../src/service.ts';
import { freeze } from './events.ts';

const EXAMPLES = Number(process.env.SCALE_EXAMPLES ?? 1_000_000);
const GROUPS = EXAMPLES / 4;
/** What reading all of it may add to the process. */
const MAX_GROWTH_BYTES = 300 * 1024 * 1024;

let system: TestSystem;
beforeAll(async () => {
  system = await startTestService(datasetsService, { env: { FREEZE_LEASE_MS: '2000' } });
});
afterAll(() => system.stop());

it(
  `freezes ${EXAMPLES} pairs and streams them with flat memory`,
  async () => {
    const projectId = await system.project();
    // Straight into the read model: what is measured is the freeze, not the events.
    await system.sql(
      `INSERT INTO datasets.group_splits (project_id, group_key, own_split, root, split)
     SELECT $1, 'g' || i, s, 'g' || i, s FROM (
       SELECT i, CASE WHEN i % 10 = 0 THEN 'test' WHEN i % 10 = 1 THEN 'validation' ELSE 'train' END AS s
       FROM generate_series(1, $2::int) i) drawn`,
      [projectId, GROUPS],
    );
    await system.sql(
      `INSERT INTO datasets.responses (project_id, id, version, slot, purpose, prompt_key, prompt_link, group_key, context, answer, created_at)
     SELECT $1, md5('r' || i)::uuid, 1, 'default', 'candidate', md5('p' || i % $2)::uuid, md5('p' || i % $2), 'g' || (i % $2 + 1),
       jsonb_build_array(jsonb_build_object('role', 'user', 'content', 'Prompt ' || i % $2 || repeat(' words', 60))),
       'Answer ' || i || repeat(' more words', 30), now()
     FROM generate_series(1, $3::int) i`,
      [projectId, GROUPS, 2 * EXAMPLES],
    );
    await system.sql(
      `INSERT INTO datasets.preferences (project_id, id, version, chosen_response_id, rejected_response_id, source, kind, margin, feedback_ids, synthetic, created_at, retracted)
     SELECT $1, md5('f' || i)::uuid, 1, md5('r' || i)::uuid, md5('r' || i + $2::int)::uuid, 'ratings', 'stars', 1,
       ARRAY[md5('x' || i)::uuid, md5('y' || i)::uuid], false, now(), false
     FROM generate_series(1, $2::int) i`,
      [projectId, EXAMPLES],
    );
    await system.sql('ANALYZE datasets.responses, datasets.preferences, datasets.group_splits');

    const started = performance.now();
    const requested = freeze(system, projectId, {}, {}, { timeoutMs: 15 * 60_000 });
    const { type, body } = await requested;
    const freezeSeconds = (performance.now() - started) / 1000;
    expect(type).toBe('tuneloop.dataset.ready');
    expect(body.examples).toBe(EXAMPLES);

    const url = `${system.url('datasets')}${streamDatasetRows.path.replace('{id}', String(body.dataset_version_id))}`;
    globalThis.gc?.();
    const idle = process.memoryUsage.rss();
    let peak = idle;
    let lines = 0;
    let bytes = 0;
    const streamed = performance.now();
    const answer = await fetch(url, {
      headers: { authorization: await system.authorization({ projectId, service: 'trainer' }) },
    });
    for await (const chunk of answer.body!) {
      for (const byte of chunk) if (byte === 10) lines += 1;
      bytes += chunk.length;
      peak = Math.max(peak, process.memoryUsage.rss());
    }
    const seconds = (performance.now() - streamed) / 1000;
    process.stdout.write(
      `${EXAMPLES} examples: frozen in ${freezeSeconds.toFixed(1)} s; streamed ${Math.round(lines / seconds)} rows/s, ` +
        `${Math.round(bytes / seconds / 2 ** 20)} MiB/s, +${Math.round((peak - idle) / 2 ** 20)} MiB\n`,
    );
    expect(lines).toBe(EXAMPLES);
    expect(peak - idle).toBeLessThan(MAX_GROWTH_BYTES);
  },
  30 * 60_000,
);

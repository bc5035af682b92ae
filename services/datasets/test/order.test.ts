import { newId } from '@tuneloop/runtime/ids';
import { startTestService, type TestSystem } from '@tuneloop/testkit/service';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { datasetsService } from '../src/service.ts';
import {
  created,
  deleted,
  freeze,
  idOf,
  pair,
  preference,
  preferenceGone,
  publish,
  responseRecord,
  type TestEvent,
  updated,
} from './events.ts';

let system: TestSystem;
beforeAll(async () => {
  system = await startTestService(datasetsService);
});
afterAll(() => system.stop());

const RUNS = 12;
/** A freeze waits for all that was published before it, which takes its time on a machine with other work. */
const FREEZE_MS = 40_000;

/** A history with every kind of turn: revisions, deletions, retractions, groups that turn out to be one. */
function history(): TestEvent[] {
  const many = Array.from({ length: 24 }, (_, index) => pair(`n${index}`)).flat();
  const moved = { prompt: 'Prompt n1', messages: [{ role: 'user' as const, content: 'Prompt n1' }] };
  return [
    ...many,
    // An answer is revised twice; the last state counts.
    updated(
      responseRecord('n0/good', { version: 2, prompt: 'Prompt n0', group_key: 'group:n0', response_text: 'Second.' }),
    ),
    updated(
      responseRecord('n0/good', { version: 3, prompt: 'Prompt n0', group_key: 'group:n0', response_text: 'Third.' }),
    ),
    // Clusters grow together: an answer moves from one to another, and on to a third.
    updated(responseRecord('n1/good', { ...moved, version: 2, group_key: 'group:n2' })),
    updated(responseRecord('n1/good', { ...moved, version: 3, group_key: 'group:n3' })),
    // The same prompt about another picture.
    created(responseRecord('twin', { prompt: 'Prompt n4', group_key: 'group:twin', messages: null })),
    deleted('n5/bad'),
    // Moved, then gone: its groups stay one.
    updated(responseRecord('n6/bad', { version: 2, prompt: 'Prompt n6', group_key: 'group:n7' })),
    deleted('n6/bad', 3),
    preferenceGone('n8/pref'),
    preferenceGone('n9/pref'),
    preference('n9/pref', 'n9/good', 'n9/bad', { version: 3, margin: 1.2 }),
    preference('n10/again', 'n10/good', 'n10/bad'),
  ];
}

it('gives the same version, hash for hash, for every order and redelivery of the same events', async () => {
  const events = history();
  // Splits are drawn per project, so one project is emptied and fed again.
  const projectId = await system.project({ validation_share: 0.2, test_share: 0.2 });
  const hashes = new Set<string>();
  const splits = new Set<string>();
  const order = fc.record({
    shuffled: fc.shuffledSubarray(events, { minLength: events.length }),
    repeated: fc.subarray(events),
  });
  for (const { shuffled, repeated } of fc.sample(order, { numRuns: RUNS, seed: 7 })) {
    await forget(projectId);
    const ids = new Map(events.map((event) => [event, newId()]));
    const repeats = repeated.map((event) => ({ event, id: ids.get(event)! }));
    const all = [...shuffled.map((event) => ({ event, id: ids.get(event)! })), ...repeats];
    await Promise.all(all.map(({ event, id }) => publish(system, projectId, event, id)));
    const { type, body } = await freeze(system, projectId, {}, {}, { timeoutMs: FREEZE_MS });
    expect(type).toBe('tuneloop.dataset.ready');
    hashes.add(String(body.content_hash));
    splits.add(JSON.stringify([body.splits, body.test_groups, body.test_fingerprint]));
  }
  expect([...hashes]).toHaveLength(1);
  expect([...splits]).toHaveLength(1);
  const merged = await system.sql<{ root: string; keys: string[] }>(
    `SELECT root, array_agg(group_key ORDER BY group_key) AS keys FROM datasets.group_splits
     WHERE project_id = $1 GROUP BY root HAVING count(*) > 1 ORDER BY root`,
    [projectId],
  );
  expect(merged.map((row) => row.keys)).toEqual([
    ['group:n1', 'group:n2', 'group:n3'],
    ['group:n4', 'group:twin'],
    ['group:n6', 'group:n7'],
  ]);
}, 120_000);

it('keeps the split of a group when the shares change', async () => {
  const projectId = await system.project({ validation_share: 0, test_share: 0 });
  const splitOf = async () => {
    const [row] = await system.sql<{ split: string }>(
      `SELECT split FROM datasets.group_splits WHERE project_id = $1 AND group_key = 'group:kept'`,
      [projectId],
    );
    return row?.split;
  };
  for (const event of pair('kept')) await publish(system, projectId, event);
  await freeze(system, projectId);
  expect(await splitOf()).toBe('train');
  await system.sql(`UPDATE datasets.projects SET settings = settings || '{"test_share": 0.9}' WHERE project_id = $1`, [
    projectId,
  ]);
  await publish(system, projectId, updated(responseRecord('kept/good', { version: 2, group_key: 'group:kept' })));
  for (const event of pair('new')) await publish(system, projectId, event);
  await freeze(system, projectId);
  expect(await splitOf()).toBe('train');
});

async function forget(projectId: string): Promise<void> {
  for (const table of ['responses', 'rewards', 'preferences', 'group_splits', 'prompt_groups', 'inbox']) {
    await system.sql(`DELETE FROM datasets.${table} WHERE project_id = $1`, [projectId]);
  }
}

it('makes one group of equal prompts, but not where a picture went with them', async () => {
  const projectId = await system.project();
  const prompt = { prompt: 'What is this?', purpose: 'production' as const };
  await Promise.all(
    [
      created(
        responseRecord('t1', { ...prompt, group_key: 'a', messages: [{ role: 'user', content: 'What is this?' }] }),
      ),
      created(
        responseRecord('t2', { ...prompt, group_key: 'b', messages: [{ role: 'user', content: ' what  is this?' }] }),
      ),
      created(responseRecord('t3', { ...prompt, group_key: 'c', image_id: idOf('image') })),
      created(
        responseRecord('t4', {
          ...prompt,
          group_key: 'd',
          messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url: 'x' } }] }],
        }),
      ),
    ].map((event) => publish(system, projectId, event)),
  );
  await freeze(system, projectId);
  const rows = await system.sql<{ group_key: string; root: string }>(
    'SELECT group_key, root FROM datasets.group_splits WHERE project_id = $1 ORDER BY group_key',
    [projectId],
  );
  expect(rows.map((row) => row.root)).toEqual(['a', 'a', 'c', 'd']);
});

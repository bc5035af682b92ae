import { createHash } from 'node:crypto';
import {
  getDatasetVersionInternal,
  exampleRow,
  type ExampleRow,
  streamDatasetRows,
  streamTestPrompts,
  testPrompt,
} from '@tuneloop/contracts/datasets/internal';
import { newId } from '@tuneloop/runtime/ids';
import { LeaseLostError } from '@tuneloop/runtime/leases';
import { startTestService, type TestSystem } from '@tuneloop/testkit/service';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { DatasetsContext } from '../src/config.ts';
import { datasetsService } from '../src/service.ts';
import { runFreeze } from '../src/usecases/freeze.ts';
import {
  created,
  deleted,
  freeze,
  idOf,
  outcomeOf,
  outcomes,
  pair,
  pairs,
  preference,
  preferenceGone,
  publish,
  publishAll,
  readRows,
  requestTraining,
  responseRecord,
  reward,
  rewardGone,
} from './events.ts';

let system: TestSystem;
beforeAll(async () => {
  system = await startTestService(datasetsService, { env: { FREEZE_LEASE_MS: '1000' } });
});
afterAll(() => system.stop());

async function lines(projectId: string, versionId: unknown, split?: string): Promise<string> {
  const answer = await system.call<string>(
    streamDatasetRows,
    { params: { id: String(versionId) }, ...(split === undefined ? {} : { query: { split } }) },
    { projectId },
  );
  expect(answer.status).toBe(200);
  return answer.body;
}

async function rows(projectId: string, versionId: unknown, split?: string): Promise<ExampleRow[]> {
  return (await readRows(await lines(projectId, versionId, split))).map((row) => exampleRow.parse(row));
}

describe('dpo', () => {
  it('freezes every pair, splits by group, and hashes the lines that it serves', async () => {
    const projectId = await system.project();
    await publishAll(system, projectId, pairs(60));
    const { type, body, correlationId } = await freeze(system, projectId);
    expect(type).toBe('tuneloop.dataset.ready');
    expect(correlationId).toBeDefined();
    const version = { params: { id: String(body.dataset_version_id) } };
    const kept = await system.call(getDatasetVersionInternal, version, { projectId });
    expect(kept.body).toMatchObject({ content_hash: body.content_hash, splits: body.splits });
    expect((await system.call(getDatasetVersionInternal, version, { projectId: newId() })).status).toBe(404);
    const text = await lines(projectId, body.dataset_version_id);
    const all = await rows(projectId, body.dataset_version_id);
    expect(all).toHaveLength(60);
    const hash = createHash('sha256');
    for (const line of text.trimEnd().split('\n')) hash.update(createHash('sha256').update(line).digest());
    expect(hash.digest('hex')).toBe(body.content_hash);
    const first = all.find((row) => row.id === idOf('p0/pref'));
    expect(first).toMatchObject({
      messages: [{ role: 'user', content: 'Prompt p0' }],
      chosen: 'Answer p0/good.',
      rejected: 'Answer p0/bad.',
      lineage: { feedback_ids: [idOf('feedback p0/pref')], response_ids: [idOf('p0/good'), idOf('p0/bad')] },
    });
    const bySplit = Object.groupBy(all, (row) => row.split);
    expect(body.splits).toEqual({
      train: bySplit.train?.length ?? 0,
      validation: bySplit.validation?.length ?? 0,
      test: bySplit.test?.length ?? 0,
    });
    expect(await rows(projectId, body.dataset_version_id, 'test')).toEqual(bySplit.test);
  });

  it('takes what the spec asks for: no synthetic pairs, a margin, a cap of the largest margins', async () => {
    const projectId = await system.project({ validation_share: 0, test_share: 0 });
    const shared = { prompt: 'One', messages: [{ role: 'user' as const, content: 'One' }], group_key: 'one' };
    const names = ['a', 'b', 'c', 'd', 'e', 'f'];
    await publishAll(system, projectId, [
      ...names.map((name) => created(responseRecord(name, shared))),
      preference('ab', 'a', 'b', { margin: 0.4 }),
      preference('ac', 'a', 'c', { margin: 1.5 }),
      preference('ad', 'a', 'd', { margin: 0.9 }),
      preference('ae', 'a', 'e', { margin: 2, synthetic: true }),
      preference('af', 'a', 'f', { margin: 0.1 }),
    ]);
    const spec = { min_examples: 1, max_pairs_per_prompt: 2, min_margin: 0.3 };
    const human = await freeze(system, projectId, spec);
    const ids = async (versionId: unknown) => (await rows(projectId, versionId)).map((row) => row.id).toSorted();
    expect(await ids(human.body.dataset_version_id)).toEqual([idOf('ac'), idOf('ad')].toSorted());
    const mixed = await freeze(system, projectId, { ...spec, include_synthetic: true });
    expect(await ids(mixed.body.dataset_version_id)).toEqual([idOf('ac'), idOf('ae')].toSorted());
  });

  it('leaves out what teaches nothing, and says so', async () => {
    const projectId = await system.project({ validation_share: 0, test_share: 0 });
    const same = {
      prompt: 'S',
      messages: [{ role: 'user' as const, content: 'S' }],
      group_key: 's',
      response_text: 'equal',
    };
    await publishAll(system, projectId, [
      ...pairs(3),
      created(responseRecord('s1', same)),
      created(responseRecord('s2', same)),
      preference('same', 's1', 's2'),
      created(responseRecord('empty', { ...same, response_text: ' \n' })),
      preference('to-empty', 's1', 'empty'),
      created(responseRecord('judged', { ...same, purpose: 'evaluation', response_text: 'x' })),
      preference('evaluated', 's1', 'judged'),
      preference('across', 's1', 'p0/bad'),
      created(responseRecord('elsewhere', { ...same, slot: 'brand', response_text: 'y' })),
      preference('slots', 's1', 'elsewhere'),
      ...pair('gone'),
      deleted('gone/bad'),
      ...pair('taken-back'),
      preferenceGone('taken-back/pref'),
    ]);
    const { body } = await freeze(system, projectId, { min_examples: 1 });
    expect((await rows(projectId, body.dataset_version_id)).map((row) => row.chosen).toSorted()).toEqual([
      'Answer p0/good.',
      'Answer p1/good.',
      'Answer p2/good.',
    ]);
    const [version] = await system.sql<{ validation: { warnings: { code: string; count: number }[] } }>(
      'SELECT validation FROM datasets.dataset_versions WHERE id = $1',
      [body.dataset_version_id],
    );
    const found = Object.fromEntries(version!.validation.warnings.map(({ code, count }) => [code, count]));
    expect(found).toMatchObject({ same_answers: 1, empty_answer: 1, other_prompt: 1 });
  });

  it('uses a correction as the preferred answer', async () => {
    const projectId = await system.project({ validation_share: 0, test_share: 0 });
    await publishAll(system, projectId, [
      created(responseRecord('r')),
      preference('fix', 'r', 'r', { chosen_text: 'Better.', source: 'correction', kind: 'correction' }),
    ]);
    const { body } = await freeze(system, projectId, { min_examples: 1 });
    expect(await rows(projectId, body.dataset_version_id)).toMatchObject([
      {
        chosen: 'Better.',
        rejected: 'Answer r.',
        messages: [{ role: 'user', content: 'Describe it.' }],
        lineage: { response_ids: [idOf('r')] },
      },
    ]);
  });
});

describe('sft', () => {
  it('takes well rated answers and corrections, not what was corrected', async () => {
    const projectId = await system.project({ validation_share: 0, test_share: 0 });
    const own = (name: string) => ({ prompt: name, group_key: name, messages: null });
    await publishAll(system, projectId, [
      created(responseRecord('good', own('good'))),
      reward('w1', 'good', 1),
      reward('w2', 'good', 0.2),
      created(responseRecord('mixed', own('mixed'))),
      reward('w3', 'mixed', 1),
      reward('w4', 'mixed', -0.5),
      created(responseRecord('revised', own('revised'))),
      reward('w5', 'revised', -1),
      rewardGone('w5', 'revised'),
      reward('w6', 'revised', 1),
      created(responseRecord('wrong', own('wrong'))),
      reward('w7', 'wrong', 1),
      preference('fix', 'wrong', 'wrong', { chosen_text: 'Right.', source: 'correction', kind: 'correction' }),
    ]);
    const { body } = await freeze(system, projectId, { min_examples: 1 }, { method: 'sft' });
    const all = await rows(projectId, body.dataset_version_id);
    expect(all.map((row) => `${row.chosen} ${String(row.rejected)}`).toSorted()).toEqual([
      'Answer good. null',
      'Answer revised. null',
      'Right. null',
    ]);
    const good = all.find((row) => row.id === idOf('good'));
    expect(good?.lineage.feedback_ids).toEqual([idOf('feedback w1'), idOf('feedback w2')].toSorted());
  });
});

describe('test prompts', () => {
  it('are one per group of the test split, also without a preference, and never of an evaluation', async () => {
    const projectId = await system.project({ validation_share: 0, test_share: 0.5 });
    const lone = Array.from({ length: 20 }, (_, index) =>
      created(
        responseRecord(`lone${index}`, { prompt: `Lone ${index}`, group_key: `lone:${index}`, facts: { noun: 'hat' } }),
      ),
    );
    await publishAll(system, projectId, [
      ...pairs(20),
      ...lone,
      created(responseRecord('eval', { group_key: 'eval', prompt: 'Eval', purpose: 'evaluation' })),
    ]);
    const { body } = await freeze(system, projectId, { min_examples: 1 });
    const answer = await system.call<string>(
      streamTestPrompts,
      { params: { id: String(body.dataset_version_id) } },
      { projectId },
    );
    const prompts = (await readRows(answer.body)).map((row) => testPrompt.parse(row));
    const groups = await system.sql<{ group_key: string }>(
      `SELECT group_key FROM datasets.group_splits WHERE project_id = $1 AND split = 'test'`,
      [projectId],
    );
    expect(groups.length).toBeGreaterThan(5);
    expect(prompts.map((prompt) => prompt.group_key).toSorted()).toEqual(groups.map((row) => row.group_key).toSorted());
    expect(body.test_groups).toBe(prompts.length);
    const alone = prompts.find((prompt) => prompt.group_key.startsWith('lone:'));
    expect(alone).toMatchObject({ facts: { noun: 'hat' }, messages: [{ role: 'user' }] });
  });
});

describe('what is not there', () => {
  it('says insufficient with the numbers', async () => {
    const projectId = await system.project();
    await publishAll(system, projectId, pairs(3));
    const { type, body } = await freeze(system, projectId);
    expect(type).toBe('tuneloop.dataset.insufficient');
    expect(body).toMatchObject({ examples: 3, needed: 10 });
    const left = await system.sql('SELECT 1 FROM datasets.version_examples WHERE project_id = $1', [projectId]);
    expect(left).toEqual([]);
  });

  it.each([
    [{ kind: 'predictions' }, { method: 'classifier' }, 'datasets.kind.unsupported'],
    [{ dataset_version_id: newId() }, {}, 'datasets.version.not_found'],
  ])('fails %j at once with a reason', async (spec, fields, code) => {
    const projectId = await system.project();
    const { type, body } = await freeze(system, projectId, spec, fields);
    expect(type).toBe('tuneloop.dataset.failed');
    expect(body.code).toBe(code);
  });

  it('answers a request for an existing version with that version', async () => {
    const projectId = await system.project();
    await publishAll(system, projectId, pairs(12));
    const first = await freeze(system, projectId);
    const again = await freeze(system, projectId, { dataset_version_id: first.body.dataset_version_id });
    expect(again.body).toMatchObject({
      dataset_version_id: first.body.dataset_version_id,
      content_hash: first.body.content_hash,
    });
  });
});

describe('versions', () => {
  it('do not change: not by new feedback, not by the service itself', async () => {
    const projectId = await system.project();
    await publishAll(system, projectId, pairs(15));
    const first = await freeze(system, projectId);
    const before = await lines(projectId, first.body.dataset_version_id);
    await publishAll(system, projectId, [...pairs(3, 'later'), deleted('p0/good'), preferenceGone('p1/pref')]);
    const second = await freeze(system, projectId);
    expect(second.body.content_hash).not.toBe(first.body.content_hash);
    expect(await lines(projectId, first.body.dataset_version_id)).toBe(before);
    const { pg } = system.services.get('datasets')!.ctx;
    const id = first.body.dataset_version_id;
    for (const sql of [
      `UPDATE version_examples SET ordinal = ordinal + 1000 WHERE version_id = $1`,
      `DELETE FROM version_examples WHERE version_id = $1`,
      `UPDATE dataset_versions SET content_hash = 'x' WHERE id = $1`,
      `DELETE FROM dataset_versions WHERE id = $1`,
      `INSERT INTO version_examples (project_id, version_id, split, ordinal, id, group_key, example, line_hash)
       SELECT project_id, version_id, split, ordinal + 1000, gen_random_uuid(), group_key, example, line_hash
       FROM version_examples WHERE version_id = $1`,
    ]) {
      await expect(pg.withTenant(projectId, (tx) => tx.execute(sql, [id]))).rejects.toThrow(
        /permission denied|is frozen/,
      );
    }
  });

  it('have the same hash for the same feedback, and are not shown to another project', async () => {
    const projectId = await system.project();
    await publishAll(system, projectId, pairs(15));
    const first = await freeze(system, projectId);
    const second = await freeze(system, projectId);
    expect(second.body.content_hash).toBe(first.body.content_hash);
    expect(second.body.dataset_version_id).not.toBe(first.body.dataset_version_id);
    const other = await system.project();
    const answer = await system.call(
      streamDatasetRows,
      { params: { id: String(first.body.dataset_version_id) } },
      { projectId: other },
    );
    expect(answer.status).toBe(404);
  });
});

describe('redelivery and crashes', () => {
  const shapes = [
    ['response', () => created(responseRecord('x', { group_key: 'x' })), 'responses'],
    ['deletion', () => deleted('x'), 'responses'],
    ['reward', () => reward('x', 'y', 1), 'rewards'],
    ['retracted reward', () => rewardGone('x', 'y'), 'rewards'],
    ['preference', () => preference('x', 'y', 'z'), 'preferences'],
    ['retracted preference', () => preferenceGone('x'), 'preferences'],
  ] as const;
  const points = ['inbox.before_commit', 'pg.before_commit', 'pg.after_commit', 'inbox.before_ack'];

  it.each(shapes)('%s: twice, and killed at each boundary, leaves one row', async (_name, event, table) => {
    for (const point of points) {
      const projectId = await system.project();
      system.faults.arm(point, 'throw');
      const id = await publish(system, projectId, event());
      await publish(system, projectId, event(), id);
      await publish(system, projectId, { ...event() });
      // A freeze answers when everything before it has been handled.
      await freeze(system, projectId);
      const found = await system.sql(`SELECT 1 FROM datasets.${table} WHERE project_id = $1`, [projectId]);
      expect(found).toHaveLength(1);
    }
    const dead = await system.sql('SELECT error FROM datasets.dead_letters');
    expect(dead).toEqual([]);
  });

  it.each([...points, 'outbox.before_publish', 'outbox.after_publish'])(
    'training.requested twice, with a fault at %s, is answered once',
    async (point) => {
      const projectId = await system.project();
      await publishAll(system, projectId, pairs(12));
      await freeze(system, projectId);
      const requestId = newId();
      const eventId = newId();
      system.faults.arm(point, 'throw');
      await requestTraining(system, projectId, requestId, {}, {}, eventId);
      const { type } = await outcomeOf(system, projectId, requestId);
      expect(type).toBe('tuneloop.dataset.ready');
      await requestTraining(system, projectId, requestId, {}, {}, eventId);
      await requestTraining(system, projectId, requestId);
      await freeze(system, projectId);
      expect(await outcomes(system, projectId, requestId)).toHaveLength(1);
    },
  );

  it('a freeze whose process died is taken over', async () => {
    const projectId = await system.project();
    await publishAll(system, projectId, pairs(12));
    await freeze(system, projectId);
    const requestId = newId();
    // A claim by a process that is gone: its lease ends by itself.
    await system.sql(
      `INSERT INTO datasets.freezes (project_id, id, dataset_id, kind, spec, announced, requested_by, lease_owner, lease_epoch, lease_until)
       SELECT project_id, $2, dataset_id, kind, spec, true, requested_by, 'gone', 3, now() + interval '300 ms'
       FROM datasets.freezes WHERE project_id = $1 LIMIT 1`,
      [projectId, requestId],
    );
    const { type } = await outcomeOf(system, projectId, requestId);
    expect(type).toBe('tuneloop.dataset.ready');
    const [row] = await system.sql<{ lease_epoch: number; lease_owner: string | null }>(
      'SELECT lease_epoch, lease_owner FROM datasets.freezes WHERE id = $1',
      [requestId],
    );
    expect(row).toEqual({ lease_epoch: 4, lease_owner: null });
  });

  it('a freeze that was taken over writes nothing when it comes back', async () => {
    const projectId = await system.project();
    await publishAll(system, projectId, pairs(12));
    await freeze(system, projectId);
    const id = newId();
    // Another process holds the lease by now, at a later epoch.
    await system.sql(
      `INSERT INTO datasets.freezes (project_id, id, dataset_id, kind, spec, announced, requested_by, lease_owner, lease_epoch, lease_until)
       SELECT project_id, $2, dataset_id, kind, spec, true, requested_by, 'another', 2, now() + interval '1 hour'
       FROM datasets.freezes WHERE project_id = $1 LIMIT 1`,
      [projectId, id],
    );
    const ctx = system.services.get('datasets')!.ctx as DatasetsContext;
    const late = { id, projectId, epoch: 1, signal: new AbortController().signal };
    await expect(runFreeze(ctx, late)).rejects.toThrow(LeaseLostError);
    expect(await outcomes(system, projectId, id)).toEqual([]);
    const versions = await system.sql('SELECT 1 FROM datasets.dataset_versions WHERE project_id = $1', [projectId]);
    expect(versions).toHaveLength(1);
  });
});

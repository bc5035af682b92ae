import {
  createFeedback,
  createFeedbackBatch,
  getStatistics,
  listFeedback,
  listPreferences,
  listRewards,
} from '@tuneloop/contracts/rewards/http';
import { judge, MAX_JUDGE_ITEMS, snapshotPreferences, snapshotRewards } from '@tuneloop/contracts/rewards/internal';
import { checkpointCreated, deploymentChanged, evaluationCompleted } from '@tuneloop/contracts/trainer/events';
import type { RouteContract } from '@tuneloop/contracts/route';
import { newId } from '@tuneloop/runtime/ids';
import { eventually } from '@tuneloop/testkit/eventually';
import type { TestAnswer } from '@tuneloop/testkit/service';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { response, type RewardsUnderTest, startRewards } from './rewardsUnderTest.ts';

interface Page<T> {
  data: T[];
  next_cursor: string | null;
}
interface Verdicts {
  judge: { kind: string; name: string; synthetic: boolean };
  items: { key: string; scores: number[]; outcome: number | null; details: Record<string, number>[] }[];
}
interface Statistics {
  responses: { total: number; by_model: Record<string, number>; recent_24h: number };
  rewards: object;
  checkpoints: object;
  training_readiness: { status: string; recommendations: string[] };
  groups?: object[];
}

const NOW = new Date('2026-11-02T00:00:00Z');
let system: RewardsUnderTest;
let projectId: string;
beforeAll(async () => {
  system = await startRewards({ clock: () => NOW });
});
afterAll(() => system.stop());

async function pages(
  contract: RouteContract,
  query: Record<string, string | number>,
): Promise<Record<string, string>[]> {
  const all: Record<string, string>[] = [];
  for (let cursor: string | null = ''; cursor !== null; ) {
    const answer: TestAnswer<Page<Record<string, string>>> = await system.call(
      contract,
      { query: cursor === '' ? query : { ...query, cursor } },
      { projectId },
    );
    expect(answer.status).toBe(200);
    all.push(...answer.body.data);
    cursor = answer.body.next_cursor;
  }
  return all;
}

describe('lists', () => {
  const answers = Array.from({ length: 6 }, () => response());
  beforeAll(async () => {
    projectId = await system.project();
    await system.known(projectId, ...answers);
    const items = answers.flatMap(({ response_id }, i) => [
      { kind: 'stars', value: i < 3 ? 5 : 1, response_id, user_id: 'ann', synthetic: i % 2 === 0 },
      { kind: 'correction', correction: `better ${i}`, response_id },
    ]);
    await system.call(createFeedbackBatch, { body: { items } }, { projectId });
  });

  it.each([
    [listFeedback, 'id', 12],
    [listRewards, 'reward_id', 6],
    [listPreferences, 'preference_id', 10],
    [snapshotRewards, 'reward_id', 6],
    [snapshotPreferences, 'preference_id', 10],
  ])('give everything once, page by page', async (contract, key, total) => {
    for (const limit of [1, 5, total, 500]) {
      const ids = (await pages(contract, { limit })).map((row) => row[key]);
      expect(ids).toHaveLength(total);
      expect(new Set(ids).size).toBe(total);
    }
  });

  it('filter', async () => {
    const response_id = answers[0]!.response_id;
    expect(await pages(listFeedback, { response_id, kind: 'stars' })).toMatchObject([{ value: 5, user_id: 'ann' }]);
    expect(await pages(listFeedback, { user_id: 'test', limit: 500 })).toHaveLength(6);
    expect(await pages(listRewards, { min_score: 0.5 })).toHaveLength(3);
    expect(await pages(listRewards, { synthetic: 'true' })).toHaveLength(3);
    expect(await pages(listPreferences, { source: 'ratings' })).toHaveLength(4);
    expect(await pages(listPreferences, { response_id, source: 'correction' })).toMatchObject([
      { chosen_text: 'better 0' },
    ]);
  });

  it('show nothing of it to another project, nor of the internal ones to a key', async () => {
    const other = await system.project();
    for (const contract of [listFeedback, listRewards, listPreferences, snapshotRewards]) {
      expect((await system.call<Page<object>>(contract, {}, { projectId: other })).body.data).toEqual([]);
    }
    const authorization = await system.authorization({ projectId });
    const refused = await fetch(`${system.url('rewards')}${snapshotRewards.path}`, { headers: { authorization } });
    expect(refused.status).toBe(403);
  });
});

describe('GET /api/v1/statistics', () => {
  beforeAll(async () => {
    projectId = await system.project();
  });
  const statistics = async (query: Record<string, string> = {}) =>
    (await system.call<Statistics>(getStatistics, { query }, { projectId })).body;

  it('tells of an empty project that there is nothing to train on', async () => {
    expect(await statistics()).toEqual({
      responses: { total: 0, by_model: {}, recent_24h: 0 },
      rewards: { total: 0, avg_score: 0, distribution: { positive: 0, negative: 0, neutral: 0 } },
      checkpoints: { total: 0, active: 0, best_performance: null },
      training_readiness: { status: 'insufficient_data', recommendations: expect.any(Array) as string[] },
    });
  });

  it('counts, groups, and says when there is enough', async () => {
    const records = Array.from({ length: 101 }, (_, i) =>
      response({
        model_id: i < 60 ? 'nano' : 'other',
        brand: i % 2 === 0 ? 'acme' : null,
        created_at: i < 10 ? '2026-11-01T12:00:00.000Z' : '2026-10-01T12:00:00.000Z',
      }),
    );
    await system.known(projectId, ...records.slice(0, 60));
    const rate = (from: number, to: number) =>
      system.call(
        createFeedbackBatch,
        {
          body: {
            items: records.slice(from, to).map(({ response_id }, i) => ({
              kind: i % 4 === 3 ? 'thumbs' : 'stars',
              value: i % 4 === 3 ? 'down' : [5, 3, 1][i % 4],
              response_id,
              created_at: i % 2 === 0 ? '2026-10-30T23:59:59Z' : '2026-10-31T00:00:00Z',
            })),
          },
        },
        { projectId },
      );
    await rate(0, 48);
    expect(await statistics()).toMatchObject({
      responses: { total: 60, by_model: { nano: 60 }, recent_24h: 10 },
      rewards: { total: 48, avg_score: -0.25, distribution: { positive: 12, neutral: 12, negative: 24 } },
      training_readiness: { status: 'partial' },
    });
    await system.known(projectId, ...records.slice(60));
    await rate(48, 52);
    const all = await statistics({ by: 'kind' });
    expect(all.training_readiness.status).toBe('ready');
    expect(all.responses.by_model).toEqual({ nano: 60, other: 41 });
    expect(all.groups).toMatchObject([
      { key: 'stars', total: 39, avg_score: 0 },
      { key: 'thumbs', total: 13, avg_score: -1 },
    ]);
    expect((await statistics({ by: 'day' })).groups).toMatchObject([
      { key: '2026-10-31', total: 26 },
      { key: '2026-10-30', total: 26 },
    ]);
    expect((await statistics({ by: 'brand' })).groups).toMatchObject([{ total: 26 }, { total: 26 }]);
    expect(await statistics({ brand: 'acme', kind: 'stars', to: '2026-10-31T00:00:00Z' })).toMatchObject({
      rewards: { total: 26, distribution: { positive: 13, negative: 13, neutral: 0 } },
    });
  });

  it('tells of checkpoints by the trainer’s events, in any order', async () => {
    const [first, second] = [newId(), newId()];
    const job = { job_id: newId(), request_id: null };
    const measured = (value: number) => ({ value, low: null, high: null, n: 10 });
    const created = (checkpoint_id: string) => ({
      subject: checkpoint_id,
      data: {
        checkpoint_id,
        job_id: null,
        base_model: 'nano',
        storage_key: 'k',
        sha256: 's',
        step: 1,
        epoch: 1,
        model_name: 'm',
      },
    });
    const evaluated = (checkpoint_id: string, value: number) => ({
      subject: checkpoint_id,
      data: { evaluation_id: newId(), ...job, checkpoint_id, before: {}, after: { freshReward: measured(value) } },
    });
    const serving = (version: number, ...ids: (string | null)[]) => ({
      subject: 'default',
      data: {
        slot: 'default',
        version,
        targets: ids.map((checkpoint_id) => ({ checkpoint_id, base_model: 'nano', storage_key: null, weight: 1 })),
        changed_by: 'gate',
        changed_at: '2026-11-01T00:00:00Z',
      },
    });
    await system.publish(evaluationCompleted, projectId, evaluated(first, 0.25));
    await system.publish(checkpointCreated, projectId, created(first));
    await system.publish(checkpointCreated, projectId, created(second));
    await system.publish(evaluationCompleted, projectId, evaluated(second, 0.5));
    await system.publish(deploymentChanged, projectId, serving(2, first, second));
    await eventually(async () => {
      expect((await statistics()).checkpoints).toEqual({ total: 2, active: 2, best_performance: 0.5 });
    });
    await system.publish(deploymentChanged, projectId, serving(1, first));
    await system.publish(deploymentChanged, projectId, serving(3, null));
    await eventually(async () => {
      expect((await statistics()).checkpoints).toEqual({ total: 2, active: 0, best_performance: 0.5 });
    });
  });
});

describe('the judge', () => {
  const prompt = 'Item: mug\nColour: red\nBackground: slate';
  const right = 'A red mug on a slate background.';
  const wrong = 'A blue mug on a slate background.';
  const item = (key: string, ...answers: string[]) => ({ key, prompt, facts: null, answers });
  const ask = (items: object[], seed = 1) =>
    system.call<Verdicts>(judge, { body: { items, seed } }, { projectId, service: 'trainer' });

  beforeAll(async () => {
    projectId = await system.project({ judge: { kind: 'scripted', taste: 'accurate' } });
  });

  it('gives the same question the same answer, whatever else is asked', async () => {
    const items = Array.from({ length: 50 }, (_, i) => item(`k${i}`, right, wrong));
    const all = await ask(items);
    expect(all.body.judge).toEqual({ kind: 'scripted', name: 'accurate', synthetic: true });
    expect((await ask(items)).body).toEqual(all.body);
    expect((await ask([items[7]!])).body.items[0]).toEqual(all.body.items[7]);
    expect((await ask(items, 2)).body.items).not.toEqual(all.body.items);
  });

  it('prefers what its taste prefers, and has a person’s noise', async () => {
    const { items } = (await ask(Array.from({ length: 200 }, (_, i) => item(`k${i}`, right, wrong)))).body;
    const mean = (of: (verdict: Verdicts['items'][number]) => number) =>
      items.reduce((sum, verdict) => sum + of(verdict), 0) / items.length;
    expect(mean(({ scores }) => scores[0] ?? 0) - mean(({ scores }) => scores[1] ?? 0)).toBeGreaterThan(0.5);
    expect(mean(({ outcome }) => outcome ?? 0)).toBeGreaterThan(0.9);
    expect(new Set(items.map(({ scores }) => scores[0])).size).toBeGreaterThan(1);
    expect(items[0]?.details.map(({ wrong_attributes }) => wrong_attributes)).toEqual([0, 1]);
    expect(items.flatMap(({ scores }) => scores).every((score) => Math.abs(score) <= 1)).toBe(true);
  });

  it('scores one answer without comparing', async () => {
    expect((await ask([item('k', right)])).body.items[0]).toMatchObject({ outcome: null });
  });

  it('stores nothing', async () => {
    expect((await system.call<Page<object>>(listRewards, {}, { projectId })).body.data).toEqual([]);
  });

  it('says what is missing, and what is too much', async () => {
    expect((await ask([])).status).toBe(400);
    expect((await ask(Array.from({ length: MAX_JUDGE_ITEMS + 1 }, (_, i) => item(`k${i}`, right)))).status).toBe(400);
    projectId = await system.project();
    expect(await ask([item('k', right)])).toMatchObject({
      status: 422,
      body: { code: 'rewards.judge.not_configured' },
    });
    projectId = await system.project({ judge: { kind: 'scripted', taste: 'sour' } });
    expect(await ask([item('k', right)])).toMatchObject({ status: 422, body: { code: 'rewards.judge.taste_unknown' } });
  });
});

describe('a crash around the commit of feedback', () => {
  it.each(['pg.before_commit', 'pg.after_commit', 'outbox.before_publish', 'outbox.after_publish'])(
    'at %s leaves one reward for a client that tries again',
    async (point) => {
      projectId = await system.project();
      const record = response();
      await system.known(projectId, record);
      const headers = { 'idempotency-key': newId() };
      const body = { kind: 'stars', value: 4, response_id: record.response_id };
      system.faults.arm(point, 'throw');
      await eventually(async () => {
        const answer = await system.call(createFeedback, { body }, { projectId, headers });
        return answer.status === 201;
      });
      expect((await system.call<Page<object>>(listRewards, {}, { projectId })).body.data).toHaveLength(1);
      await eventually(async () => {
        const [row] = await system.sql<{ n: string }>(
          'SELECT count(*) AS n FROM rewards.outbox WHERE project_id = $1 AND published_at IS NULL',
          [projectId],
        );
        return Number(row?.n) === 0;
      });
    },
  );
});

import { rftCreateReward, rftDeleteReward, rftListRewards, rftUpdateReward } from '@tuneloop/contracts/rewards/http';
import { newId } from '@tuneloop/runtime/ids';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { response, type RewardsUnderTest, startRewards } from './rewardsUnderTest.ts';

interface Reward {
  id: string;
  response_id: string;
  score: number;
  detail: unknown;
  created_at: string;
}
interface Created {
  success: boolean;
  data: Reward;
  error?: string;
}
interface Listed {
  success: boolean;
  data: (Reward & { responses: object })[];
  count: number;
  stats: object;
}

let system: RewardsUnderTest;
let projectId: string;
beforeAll(async () => {
  system = await startRewards();
  projectId = await system.project();
});
afterAll(() => system.stop());

const post = (body: object, headers: Record<string, string> = {}) =>
  system.call<Created>(rftCreateReward, { body }, { projectId, headers });
const list = async (query: Record<string, string | number> = {}) =>
  (await system.call<Listed>(rftListRewards, { query }, { projectId })).body;

describe('/functions/v1/rft-rewards', () => {
  it('records, lists with the response nested, changes and deletes', async () => {
    const record = response({ user_id: 'u-1' });
    await system.known(projectId, record);
    const created = await post({ response_id: record.response_id, score: 0.75, detail: { why: 'clear' } });
    expect(created.status).toBe(200);
    expect(created.body).toMatchObject({ success: true, data: { score: 0.75, detail: { why: 'clear' } } });
    const dated = await post({ response_id: record.response_id, score: -0.5, created_at: '2026-01-01T00:00:00' });
    expect(dated.body.data.created_at).toBe('2026-01-01T00:00:00.000Z');

    const listed = await list({ response_id: record.response_id });
    expect(listed).toMatchObject({
      success: true,
      count: 2,
      stats: {
        total_rewards: 2,
        avg_score: 0.125,
        max_score: 0.75,
        min_score: -0.5,
        score_distribution: { positive: 1, negative: 1, neutral: 0 },
      },
    });
    // Newest first; no key of the nested answer more or less.
    expect(listed.data.map(({ score }) => score)).toEqual([0.75, -0.5]);
    expect(listed.data[0]?.responses).toEqual({
      id: record.response_id,
      user_id: 'u-1',
      prompt: record.prompt,
      response_text: record.response_text,
      model_id: 'nano',
      created_at: record.created_at,
    });

    const { id } = created.body.data;
    const changed = await system.call<Created>(
      rftUpdateReward,
      { query: { id }, body: { score: -1, detail: null } },
      { projectId },
    );
    expect(changed.body).toMatchObject({ success: true, data: { id, score: -1, detail: null } });
    const deleted = await system.call(rftDeleteReward, { query: { id } }, { projectId });
    expect(deleted).toMatchObject({ status: 200, body: { success: true, message: 'Reward deleted' } });
    expect((await list({ response_id: record.response_id })).count).toBe(1);

    const told = (await system.announced(projectId)).filter(({ data }) => data.reward_id === id);
    expect(told.map(({ type, data }) => [type, data.version, data.score])).toEqual([
      ['reward.recorded', 1, 0.75],
      ['reward.recorded', 2, -1],
      ['reward.retracted', 3, undefined],
    ]);
  });

  it('takes each post as a reward of its own, pages and filters', async () => {
    const record = response();
    await system.known(projectId, record);
    for (const score of [-1, -0.5, 0, 0.5, 1, 1]) await post({ response_id: record.response_id, score });
    const response_id = record.response_id;
    expect((await list({ response_id })).count).toBe(6);
    const page = await list({ response_id, min_score: 0, max_score: 0.5, limit: 1, offset: 1 });
    expect(page).toMatchObject({ count: 2, stats: { total_rewards: 2, avg_score: 0.25 } });
    expect(page.data.map(({ score }) => score)).toEqual([0]);
    expect(await list({ response_id: newId() })).toMatchObject({
      data: [],
      count: 0,
      stats: { total_rewards: 0, avg_score: 0, score_distribution: { positive: 0, negative: 0, neutral: 0 } },
    });
  });

  it('records once for one Idempotency-Key', async () => {
    const record = response();
    await system.known(projectId, record);
    const headers = { 'idempotency-key': newId() };
    const [first, second] = await Promise.all(
      [1, 2].map(() => post({ response_id: record.response_id, score: 1 }, headers)),
    );
    expect(second?.body.data.id).toBe(first?.body.data.id);
    expect((await list({ response_id: record.response_id })).count).toBe(1);
  });

  it('answers bad input with the field’s name, never with 500', async () => {
    const record = response();
    await system.known(projectId, record);
    const response_id = record.response_id;
    const reward = (await post({ response_id, score: 0 })).body.data.id;
    const cases: [Parameters<RewardsUnderTest['call']>[0], object, number, string][] = [
      [rftCreateReward, { body: {} }, 400, 'response_id'],
      [rftCreateReward, { body: { response_id } }, 400, 'score'],
      [rftCreateReward, { body: { score: 1 } }, 400, 'response_id'],
      [rftCreateReward, { body: { response_id, score: 1.5 } }, 400, 'score'],
      [rftCreateReward, { body: { response_id, score: '1' } }, 400, 'score'],
      [rftCreateReward, { body: { response_id, score: null } }, 400, 'score'],
      [rftCreateReward, { body: { response_id: 'x', score: 1 } }, 400, 'response_id'],
      [rftCreateReward, { body: { response_id: newId(), score: 1 } }, 404, 'response_id'],
      [rftCreateReward, { body: { response_id, score: 1, created_at: 'now' } }, 400, 'created_at'],
      [rftCreateReward, { body: { response_id, score: 1, detail: 'x'.repeat(70_000) } }, 400, 'detail'],
      [rftCreateReward, { body: 'text' }, 400, 'body'],
      [rftListRewards, { query: { response_id: 'x' } }, 400, 'response_id'],
      [rftListRewards, { query: { min_score: 'low' } }, 400, 'min_score'],
      [rftListRewards, { query: { max_score: 2 } }, 400, 'max_score'],
      [rftListRewards, { query: { limit: 0 } }, 400, 'limit'],
      [rftListRewards, { query: { offset: -1 } }, 400, 'offset'],
      [rftUpdateReward, { body: { score: 1 } }, 400, 'id'],
      [rftUpdateReward, { query: { id: 'x' }, body: { score: 1 } }, 400, 'id'],
      [rftUpdateReward, { query: { id: newId() }, body: { score: 1 } }, 404, 'reward'],
      [rftUpdateReward, { query: { id: reward }, body: {} }, 400, 'score'],
      [rftUpdateReward, { query: { id: reward }, body: { score: -2 } }, 400, 'score'],
      [rftDeleteReward, {}, 400, 'id'],
      [rftDeleteReward, { query: { id: newId() } }, 404, 'reward'],
    ];
    for (const [contract, input, status, named] of cases) {
      const refused = await system.call<Created>(contract, input, { projectId });
      expect({ input, status: refused.status, success: refused.body.success }).toEqual({
        input,
        status,
        success: false,
      });
      expect(refused.body.error).toContain(named);
    }
    expect(await list({ response_id })).toMatchObject({ count: 1, data: [{ id: reward, score: 0 }] });
  });

  it('keeps projects apart', async () => {
    const record = response();
    await system.known(projectId, record);
    const { id } = (await post({ response_id: record.response_id, score: 1 })).body.data;
    const other = { projectId: await system.project() };
    expect((await system.call<Listed>(rftListRewards, {}, other)).body.count).toBe(0);
    expect((await system.call(rftDeleteReward, { query: { id } }, other)).status).toBe(404);
    expect((await system.call(rftUpdateReward, { query: { id }, body: { score: 0 } }, other)).status).toBe(404);
    const body = { response_id: record.response_id, score: 1 };
    expect((await system.call(rftCreateReward, { body }, other)).status).toBe(404);
  });
});

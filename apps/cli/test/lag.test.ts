import { createRftResponse } from '@tuneloop/contracts/responses/http';
import { rftCreateReward, rftListRewards } from '@tuneloop/contracts/rewards/http';
import { responsesService } from '@tuneloop/responses/service';
import { rewardsService } from '@tuneloop/rewards/service';
import { eventually } from '@tuneloop/testkit/eventually';
import { startTestSystem, type TestSystem } from '@tuneloop/testkit/service';
import { afterAll, beforeAll, expect, it } from 'vitest';

const REWARDS = 1_000;
const AT_ONCE = 8;

let system: TestSystem;
beforeAll(async () => {
  system = await startTestSystem([responsesService, rewardsService]);
});
afterAll(() => system.stop());

it(`takes ${REWARDS} rewards posted right after their responses while no event gets through`, async () => {
  const projectId = await system.project();
  const responses = system.services.get('responses')!.ctx;
  responses.relay.pause();
  let next = 0;
  const statuses: number[] = [];
  const lane = async (): Promise<void> => {
    while (next < REWARDS) {
      const index = next++;
      const made = await system.call<{ data: { id: string } }>(
        createRftResponse,
        { body: { user_id: 'u', prompt: `p${index}`, response_text: `r${index}` } },
        { projectId },
      );
      const rated = await system.call(
        rftCreateReward,
        { body: { response_id: made.body.data.id, score: (index % 21) / 10 - 1 } },
        { projectId },
      );
      statuses.push(rated.status);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, lane));
  expect(statuses.length).toBe(REWARDS);
  expect(new Set(statuses)).toEqual(new Set([200]));
  const list = () =>
    system.call<{ count: number; stats: { total_rewards: number } }>(
      rftListRewards,
      { query: { limit: 1 } },
      { projectId },
    );
  expect((await list()).body.stats.total_rewards).toBe(REWARDS);

  // The events that were held back tell nothing new: nothing is counted twice, nothing becomes a dead letter.
  responses.relay.resume();
  await eventually(
    async () => {
      const [row] = await system.sql<{ n: number }>(
        `SELECT count(*)::int AS n FROM rewards.inbox WHERE project_id = $1 AND consumer = 'rewards__on_response_created'`,
        [projectId],
      );
      expect(row?.n).toBe(REWARDS);
    },
    { timeoutMs: 60_000 },
  );
  expect((await list()).body.stats.total_rewards).toBe(REWARDS);
  expect(await system.sql('SELECT 1 FROM rewards.dead_letters')).toEqual([]);
});

import { getStatistics } from '@tuneloop/contracts/rewards/http';
import type { HttpApp } from '@tuneloop/runtime/http/app';
import { mountRoute } from '@tuneloop/runtime/http/mountRoute';
import type { RewardsContext } from '../config.ts';
import { readinessOf } from '../domain/readiness.ts';
import {
  countCheckpoints,
  countResponses,
  groupRewards,
  type RewardTotals,
  totalRewards,
} from '../store/statistics.ts';

const RECENT_MS = 24 * 60 * 60 * 1000;

export function mountStatistics(app: HttpApp, ctx: RewardsContext): void {
  mountRoute(app, ctx, getStatistics, async ({ query, tx }) => {
    const filter = {
      brand: query.brand ?? null,
      task: query.task ?? null,
      kind: query.kind ?? null,
      from: query.from ?? null,
      to: query.to ?? null,
    };
    const models = await countResponses(tx, filter, new Date(ctx.clock().getTime() - RECENT_MS));
    const total = models.reduce((sum, model) => sum + model.total, 0);
    const rewards = await totalRewards(tx, filter);
    const groups = query.by === undefined ? undefined : await groupRewards(tx, query.by, filter);
    return {
      responses: {
        total,
        by_model: Object.fromEntries(models.map((model) => [model.model_id, model.total])),
        recent_24h: models.reduce((sum, model) => sum + model.recent, 0),
      },
      rewards: summary(rewards),
      checkpoints: await countCheckpoints(tx),
      training_readiness: readinessOf(total, rewards.total),
      ...(groups ? { groups: groups.map((group) => ({ key: group.key, ...summary(group) })) } : {}),
    };
  });
}

function summary({ total, avg_score, positive, negative, neutral }: RewardTotals) {
  return { total, avg_score, distribution: { positive, negative, neutral } };
}

import { rftCreateReward, rftDeleteReward, rftListRewards, rftUpdateReward } from '@tuneloop/contracts/rewards/http';
import { badRequest } from '@tuneloop/runtime/errors';
import type { HttpApp } from '@tuneloop/runtime/http/app';
import { mountRoute } from '@tuneloop/runtime/http/mountRoute';
import type { RewardsContext } from '../config.ts';
import type { RewardRow } from '../store/rewards.ts';
import { listRftRewards, type RftRewardRow, totalRftRewards } from '../store/rftRewards.ts';
import { withOwnersAsked } from '../usecases/askOwners.ts';
import { changeReward, createReward, deleteReward } from '../usecases/reward.ts';

/** `/functions/v1/rft-rewards`, as clients of the edge functions know it. */
export function mountRftRewards(app: HttpApp, ctx: RewardsContext): void {
  mountCreate(app, ctx);
  mountList(app, ctx);
  mountRoute(app, ctx, rftUpdateReward, async ({ query, body, tx }) => {
    const row = await changeReward(tx, query.id.toLowerCase(), { score: body.score, detail: body.detail });
    return { success: true, data: rftReward(row) };
  });
  mountRoute(app, ctx, rftDeleteReward, async ({ query, tx }) => {
    await deleteReward(tx, query.id.toLowerCase());
    return { success: true, message: 'Reward deleted' };
  });
}

function mountCreate(app: HttpApp, ctx: RewardsContext): void {
  mountRoute(
    app,
    ctx,
    rftCreateReward,
    async ({ auth, body, idempotent, tenant }) => {
      const reward = {
        responseId: body.response_id.toLowerCase(),
        score: body.score + 0,
        detail: body.detail,
        createdAt: body.created_at === undefined ? ctx.clock() : givenTime(body.created_at),
        rater: auth.actor,
      };
      const record = (absent: ReadonlySet<string>) =>
        idempotent(async (tx) => ({ success: true as const, data: rftReward(await createReward(tx, reward, absent)) }));
      return withOwnersAsked(ctx, auth.projectId, record, tenant);
    },
    { transaction: false },
  );
}

function mountList(app: HttpApp, ctx: RewardsContext): void {
  mountRoute(app, ctx, rftListRewards, async ({ query, tx }) => {
    const filter = {
      response_id: query.response_id ?? null,
      min_score: query.min_score ?? null,
      max_score: query.max_score ?? null,
    };
    const rows = await listRftRewards(tx, filter, query.limit, query.offset);
    const totals = await totalRftRewards(tx, filter);
    const { positive, negative, neutral } = totals;
    return {
      success: true,
      data: rows.map((row) => ({ ...rftReward(row), responses: rftResponse(row) })),
      count: totals.total,
      stats: {
        total_rewards: totals.total,
        avg_score: totals.avg_score,
        max_score: totals.max_score,
        min_score: totals.min_score,
        score_distribution: { positive, negative, neutral },
      },
    };
  });
}

/** A time without an offset is UTC, as the edge functions' database took it. */
function givenTime(text: string): Date {
  const zoned = /(?:z|[+-]\d{2}:?\d{2})$/i.test(text) ? text : `${text}Z`;
  const time = new Date(zoned);
  if (time.getTime() > 0) return time;
  throw badRequest('rewards.reward.time_invalid', 'created_at must be a time since 1970', 'created_at');
}

function rftReward(row: Pick<RewardRow, 'id' | 'response_id' | 'score' | 'detail' | 'created_at'>) {
  return {
    id: row.id,
    response_id: row.response_id,
    score: row.score,
    detail: row.detail,
    created_at: row.created_at.toISOString(),
  };
}

function rftResponse(row: RftRewardRow) {
  if (row.response_created_at === null) return null;
  return {
    id: row.response_id,
    user_id: row.user_id ?? '',
    prompt: row.prompt ?? '',
    response_text: row.response_text ?? '',
    model_id: row.model_id ?? '',
    created_at: row.response_created_at.toISOString(),
  };
}

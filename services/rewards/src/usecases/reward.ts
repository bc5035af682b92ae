import { badRequest, notFound } from '@tuneloop/runtime/errors';
import { newId } from '@tuneloop/runtime/ids';
import { emitAll, type PendingEvent } from '@tuneloop/runtime/outbox/emit';
import type { Tx } from '@tuneloop/runtime/pg/database';
import { responseNotFound } from '../domain/feedback.ts';
import type { Json } from '../domain/json.ts';
import { rulesOf } from '../domain/rules.ts';
import { deleteFeedback } from '../store/feedback.ts';
import { lockResponses } from '../store/responses.ts';
import {
  findActiveReward,
  insertReward,
  type RewardChange,
  retractReward,
  type RewardRow,
  updateReward,
} from '../store/rewards.ts';
import { announceReward, announceRewardRetracted } from './announce.ts';
import { resolveResponses } from './resolveResponses.ts';
import { settlePrompts } from './settlePairs.ts';

/** A detail travels in an event whole. */
const MAX_DETAIL_BYTES = 64 * 1024;

export interface NewReward {
  readonly responseId: string;
  readonly score: number;
  readonly detail: Json | undefined;
  readonly createdAt: Date;
  readonly rater: string;
}

/** Records a score that is nobody's feedback: each is a reward of its own and supersedes nothing. */
export async function createReward(tx: Tx, input: NewReward, absent: ReadonlySet<string>): Promise<RewardRow> {
  checkDetail(input.detail);
  const { byRef } = await resolveResponses(tx, [{ responseId: input.responseId }], { absent, lockPrompts: false });
  const response = byRef.get(input.responseId);
  if (!response) throw responseNotFound('response_id');
  const row: RewardRow = {
    id: newId(),
    version: 1,
    feedback_id: null,
    response_id: response.id,
    prompt_key: response.prompt_key,
    kind: 'score',
    score: input.score,
    stars: null,
    rater: input.rater,
    identified: false,
    synthetic: false,
    detail: input.detail ?? null,
    brand: response.brand,
    task: response.task,
    created_at: input.createdAt,
  };
  await insertReward(tx, row);
  await emitAll(tx, [announceReward(row)]);
  return row;
}

/** @throws AppError 404 when there is no such reward that counts. */
export async function changeReward(tx: Tx, id: string, change: RewardChange): Promise<RewardRow> {
  checkDetail(change.detail);
  const { promptKeys, rules } = await holdReward(tx, id);
  const row = await updateReward(tx, id, change);
  if (!row) throw rewardNotFound(id);
  const settled = await settlePrompts(tx, promptKeys, rules);
  await emitAll(tx, [announceReward(row), ...settled.events]);
  return row;
}

/** @throws AppError 404 when there is no such reward that counts. */
export async function deleteReward(tx: Tx, id: string): Promise<void> {
  const { reward, promptKeys, rules } = await holdReward(tx, id);
  const retracted = await retractReward(tx, id, 'deleted');
  if (!retracted) throw rewardNotFound(id);
  if (reward.feedback_id !== null) await deleteFeedback(tx, reward.feedback_id);
  const events: PendingEvent[] = [announceRewardRetracted(retracted, 'deleted')];
  const settled = await settlePrompts(tx, promptKeys, rules);
  await emitAll(tx, [...events, ...settled.events]);
}

async function holdReward(tx: Tx, id: string) {
  const reward = await findActiveReward(tx, id);
  if (!reward) throw rewardNotFound(id);
  const { responses, settings } = await lockResponses(tx, [reward.response_id], reward.identified);
  const promptKeys = reward.identified ? responses.map((response) => response.prompt_key) : [];
  return { reward, promptKeys, rules: rulesOf(settings?.feedback) };
}

function checkDetail(detail: unknown): void {
  if (detail === undefined || Buffer.byteLength(JSON.stringify(detail)) <= MAX_DETAIL_BYTES) return;
  throw badRequest('rewards.detail.too_large', `detail must have at most ${MAX_DETAIL_BYTES / 1024} KiB`, 'detail');
}

function rewardNotFound(id: string) {
  return notFound('rewards.reward.not_found', `There is no reward with the id ${id}.`);
}

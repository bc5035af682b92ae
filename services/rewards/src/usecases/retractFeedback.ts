import { AppError, notFound } from '@tuneloop/runtime/errors';
import { emitAll } from '@tuneloop/runtime/outbox/emit';
import type { Tx } from '@tuneloop/runtime/pg/database';
import { statedPreferenceId } from '../domain/preference.ts';
import { rulesOf } from '../domain/rules.ts';
import { deleteFeedback, type FeedbackRow, findFeedbackById } from '../store/feedback.ts';
import { retractPreferences } from '../store/preferences.ts';
import { lockResponses } from '../store/responses.ts';
import { retractRewardsOfFeedback } from '../store/rewards.ts';
import { announcePreferenceRetracted, announceRewardRetracted } from './announce.ts';
import { settlePrompts } from './settlePairs.ts';

/**
 * Takes feedback back with all that was made of it. What it had superseded does not come back.
 * @param mayRetract whether the caller may take back this one
 * @throws AppError 404 when there is no such feedback that counts, 403 when it is not the caller's to take back
 */
export async function retractFeedback(
  tx: Tx,
  id: string,
  mayRetract: (feedback: FeedbackRow) => boolean,
): Promise<FeedbackRow> {
  const found = await findFeedbackById(tx, id);
  const missing = notFound('rewards.feedback.not_found', `There is no feedback ${id} that counts.`);
  if (!found) throw missing;
  if (!mayRetract(found)) {
    throw new AppError({
      code: 'rewards.feedback.not_own',
      status: 403,
      message: `Feedback ${id} was given by somebody else. Use a key or a role with the scope "write".`,
      field: 'id',
    });
  }
  const { responses, settings } = await lockResponses(tx, [found.response_id], true);
  const deleted = await deleteFeedback(tx, id);
  if (!deleted) throw missing;
  const rewards = await retractRewardsOfFeedback(tx, [id], 'deleted');
  const preferences = await retractPreferences(tx, [statedPreferenceId(id)], 'deleted');
  const rules = rulesOf(settings?.feedback);
  const promptKeys = responses.map((response) => response.prompt_key);
  const settled = await settlePrompts(tx, promptKeys, rules);
  await emitAll(tx, [
    ...rewards.map((row) => announceRewardRetracted(row, 'deleted')),
    ...preferences.map((row) => announcePreferenceRetracted(row, 'deleted')),
    ...settled.events,
  ]);
  return deleted;
}

import { emitAll, type PendingEvent } from '@tuneloop/runtime/outbox/emit';
import type { Tx } from '@tuneloop/runtime/pg/database';
import type { Callers } from '@tuneloop/runtime/callers';
import { projectSettings } from '@tuneloop/runtime/projects';
import { rulesOf } from '../domain/rules.ts';
import { deleteFeedbackOfResponse, eraseFeedbackTexts } from '../store/feedback.ts';
import { erasePreferenceTexts, retractPreferencesOfResponse } from '../store/preferences.ts';
import { deleteResponse, lockPrompts } from '../store/responses.ts';
import { eraseRewardDetails, retractRewardsOfResponse } from '../store/rewards.ts';
import { announcePreferenceRetracted, announceRewardRetracted } from './announce.ts';
import { settlePrompts } from './settlePairs.ts';

export interface ForgottenResponse {
  readonly id: string;
  readonly version: number;
  readonly reason: 'deleted' | 'erased';
}

/**
 * What was said about an answer that is gone stops counting; an erased one takes the words along. A tombstone stays,
 * so that neither a late event nor late feedback brings it back.
 */
export async function forgetResponse(
  tx: Tx,
  { id, version, reason }: ForgottenResponse,
  owners: { readonly callers: Callers },
): Promise<void> {
  const gone = await deleteResponse(tx, id, version);
  if (gone) {
    await lockPrompts(tx, [gone.prompt_key]);
    const rewards = await retractRewardsOfResponse(tx, id, reason);
    const preferences = await retractPreferencesOfResponse(tx, id, reason);
    await deleteFeedbackOfResponse(tx, id);
    const settled = rewards.length === 0 ? [] : await settlePrompt(tx, gone.prompt_key, owners);
    await emitAll(tx, [
      ...rewards.map((row) => announceRewardRetracted(row, reason)),
      ...preferences.map((row) => announcePreferenceRetracted(row, reason)),
      ...settled,
    ]);
  }
  if (reason !== 'erased') return;
  await eraseFeedbackTexts(tx, id);
  await eraseRewardDetails(tx, id);
  await erasePreferenceTexts(tx, id);
}

async function settlePrompt(
  tx: Tx,
  promptKey: string,
  owners: { readonly callers: Callers },
): Promise<readonly PendingEvent[]> {
  const rules = rulesOf((await projectSettings(tx, owners)).feedback);
  const settled = await settlePrompts(tx, [promptKey], rules);
  return settled.events;
}

import type { ResponseRecord } from '@tuneloop/contracts/responses/events';
import type { Callers } from '@tuneloop/runtime/callers';
import { emitAll } from '@tuneloop/runtime/outbox/emit';
import type { Tx } from '@tuneloop/runtime/pg/database';
import { projectSettings } from '@tuneloop/runtime/projects';
import { rulesOf } from '../domain/rules.ts';
import { lockPrompts, type ProjectedResponse, upsertResponses } from '../store/responses.ts';
import { offerForReview } from '../store/review.ts';
import { moveRewards } from '../store/rewards.ts';
import { settlePrompts } from './settlePairs.ts';

/**
 * Stores what responses says of its records, where it is news. An answer that turns out to belong to another prompt
 * takes its ratings along, and the pairs of both prompts are settled again.
 */
export async function projectResponses(
  tx: Tx,
  records: readonly ResponseRecord[],
  owners: { readonly callers: Callers },
): Promise<void> {
  if (records.length === 0) return;
  const stored = await upsertResponses(tx, records);
  const moved = stored.filter((row) => row.previous_prompt_key !== null);
  if (moved.length > 0) await settleMoved(tx, moved, owners);
  // Last: whoever holds prompts may still want these rows, never the other way round.
  await offerForReview(tx, records, stored);
}

async function settleMoved(
  tx: Tx,
  moved: readonly ProjectedResponse[],
  owners: { readonly callers: Callers },
): Promise<void> {
  const promptKeys = [...new Set(moved.flatMap((row) => [row.prompt_key, row.previous_prompt_key!]))];
  await lockPrompts(tx, promptKeys);
  for (const row of moved) await moveRewards(tx, row.id, row.prompt_key);
  const rules = rulesOf((await projectSettings(tx, owners)).feedback);
  const settled = await settlePrompts(tx, promptKeys, rules);
  await emitAll(tx, settled.events);
}

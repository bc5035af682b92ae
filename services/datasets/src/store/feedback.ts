import type { EventData } from '@tuneloop/contracts/event';
import type {
  preferenceRecorded,
  preferenceRetracted,
  rewardRecorded,
  rewardRetracted,
} from '@tuneloop/contracts/rewards/events';
import type { Tx } from '@tuneloop/runtime/pg/database';
import { storableText } from '../domain/storable.ts';

/** The highest version wins, whichever arrives first. */
export async function upsertReward(tx: Tx, reward: EventData<typeof rewardRecorded>): Promise<void> {
  await tx.execute(
    `INSERT INTO rewards (project_id, id, version, response_id, feedback_id, kind, score, synthetic, created_at, retracted)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, false)
     ON CONFLICT (project_id, id) DO UPDATE SET version = EXCLUDED.version, response_id = EXCLUDED.response_id,
       feedback_id = EXCLUDED.feedback_id, kind = EXCLUDED.kind, score = EXCLUDED.score,
       synthetic = EXCLUDED.synthetic, created_at = EXCLUDED.created_at, retracted = false
     WHERE rewards.version < EXCLUDED.version`,
    [
      tx.projectId,
      reward.reward_id,
      reward.version,
      reward.response_id,
      reward.feedback_id,
      reward.kind,
      reward.score,
      reward.synthetic,
      reward.created_at,
    ],
  );
}

export async function retractReward(tx: Tx, reward: EventData<typeof rewardRetracted>): Promise<void> {
  await tx.execute(
    `INSERT INTO rewards (project_id, id, version, response_id, retracted) VALUES ($1, $2, $3, $4, true)
     ON CONFLICT (project_id, id) DO UPDATE SET version = EXCLUDED.version, retracted = true
     WHERE rewards.version < EXCLUDED.version`,
    [tx.projectId, reward.reward_id, reward.version, reward.response_id],
  );
}

export async function upsertPreference(tx: Tx, preference: EventData<typeof preferenceRecorded>): Promise<void> {
  await tx.execute(
    `INSERT INTO preferences (project_id, id, version, chosen_response_id, rejected_response_id, chosen_text, source,
       kind, margin, feedback_ids, synthetic, created_at, retracted)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, false)
     ON CONFLICT (project_id, id) DO UPDATE SET version = EXCLUDED.version,
       chosen_response_id = EXCLUDED.chosen_response_id, rejected_response_id = EXCLUDED.rejected_response_id,
       chosen_text = EXCLUDED.chosen_text, source = EXCLUDED.source, kind = EXCLUDED.kind, margin = EXCLUDED.margin,
       feedback_ids = EXCLUDED.feedback_ids, synthetic = EXCLUDED.synthetic, created_at = EXCLUDED.created_at,
       retracted = false
     WHERE preferences.version < EXCLUDED.version`,
    [
      tx.projectId,
      preference.preference_id,
      preference.version,
      preference.chosen_response_id,
      preference.rejected_response_id,
      preference.chosen_text === null ? null : storableText(preference.chosen_text),
      preference.source,
      preference.kind,
      preference.margin,
      preference.feedback_ids,
      preference.synthetic,
      preference.created_at,
    ],
  );
}

/** The text of a correction goes with it: it may be gone for good. */
export async function retractPreference(tx: Tx, preference: EventData<typeof preferenceRetracted>): Promise<void> {
  await tx.execute(
    `INSERT INTO preferences (project_id, id, version, retracted) VALUES ($1, $2, $3, true)
     ON CONFLICT (project_id, id) DO UPDATE SET version = EXCLUDED.version, retracted = true, chosen_text = NULL
     WHERE preferences.version < EXCLUDED.version`,
    [tx.projectId, preference.preference_id, preference.version],
  );
}

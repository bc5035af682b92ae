import type { Tx } from '@tuneloop/runtime/pg/database';

export interface SessionResponse {
  readonly responseId: string;
  readonly sessionId: string | null;
  readonly version: number;
  readonly deleted: boolean;
}

/** The highest version wins, whichever came first. */
export async function upsertSessionResponse(tx: Tx, response: SessionResponse): Promise<void> {
  await tx.execute(
    `INSERT INTO session_responses (response_id, project_id, session_id, version, deleted) VALUES ($1, $2, $3, $4, $5)
     ON CONFLICT (response_id) DO UPDATE SET version = EXCLUDED.version, deleted = EXCLUDED.deleted,
       session_id = coalesce(EXCLUDED.session_id, session_responses.session_id)
     WHERE session_responses.version < EXCLUDED.version`,
    [response.responseId, tx.projectId, response.sessionId, response.version, response.deleted],
  );
}

export interface ResponseReward {
  readonly rewardId: string;
  readonly responseId: string;
  readonly version: number;
  readonly retracted: boolean;
}

export async function upsertResponseReward(tx: Tx, reward: ResponseReward): Promise<void> {
  await tx.execute(
    `INSERT INTO response_rewards (reward_id, project_id, response_id, version, retracted) VALUES ($1, $2, $3, $4, $5)
     ON CONFLICT (reward_id) DO UPDATE SET version = EXCLUDED.version, retracted = EXCLUDED.retracted
     WHERE response_rewards.version < EXCLUDED.version`,
    [reward.rewardId, tx.projectId, reward.responseId, reward.version, reward.retracted],
  );
}

import type { Tx } from '@tuneloop/runtime/pg/database';
import type { DatasetAnswer } from '../domain/datasetAnswer.ts';

/**
 * Request and dataset answer arrive in any order, perhaps at once: whoever handles either of them holds this lock to
 * the end of its transaction, so that one of the two always sees the other.
 */
export async function lockRequest(tx: Tx, requestId: string): Promise<void> {
  await tx.query('SELECT pg_advisory_xact_lock(hashtextextended($1, 0))', [`training request ${requestId}`]);
}

export async function keepEarlyAnswer(tx: Tx, requestId: string, answer: DatasetAnswer): Promise<void> {
  await tx.execute(
    `INSERT INTO early_datasets (request_id, project_id, answer) VALUES ($1, $2, $3) ON CONFLICT (request_id) DO NOTHING`,
    [requestId, tx.projectId, JSON.stringify(answer)],
  );
}

export async function takeEarlyAnswer(tx: Tx, requestId: string): Promise<DatasetAnswer | undefined> {
  const row = await tx.one<{ answer: DatasetAnswer }>(
    'DELETE FROM early_datasets WHERE request_id = $1 RETURNING answer',
    [requestId],
  );
  return row?.answer;
}

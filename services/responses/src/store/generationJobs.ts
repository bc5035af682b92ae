import type { Tx } from '@tuneloop/runtime/pg/database';

export const GENERATION_JOBS = 'generation_jobs';
export const CLAIM_GENERATION_JOBS = 'claim_generation_jobs';

export async function insertGenerationJob(tx: Tx, promptId: string): Promise<void> {
  await tx.execute('INSERT INTO generation_jobs (id, project_id) VALUES ($1, $2) ON CONFLICT DO NOTHING', [
    promptId,
    tx.projectId,
  ]);
}

export async function deleteGenerationJob(tx: Tx, promptId: string): Promise<void> {
  await tx.execute('DELETE FROM generation_jobs WHERE id = $1', [promptId]);
}

/** Gives a job back to be tried again later; tells how often it has been tried. */
export async function postponeGenerationJob(tx: Tx, promptId: string, waitMs: number): Promise<void> {
  await tx.execute(
    `UPDATE generation_jobs SET attempts = attempts + 1, lease_until = NULL,
       due_at = now() + make_interval(secs => $2::float8 / 1000)
     WHERE id = $1`,
    [promptId, waitMs],
  );
}

/** Gives a job back untouched, for another process to take at once. */
export async function releaseGenerationJob(tx: Tx, promptId: string, epoch: number): Promise<void> {
  await tx.execute('UPDATE generation_jobs SET lease_until = NULL WHERE id = $1 AND lease_epoch = $2', [
    promptId,
    epoch,
  ]);
}

export async function findJobAttempts(tx: Tx, promptId: string): Promise<number | undefined> {
  return (await tx.one<{ attempts: number }>('SELECT attempts FROM generation_jobs WHERE id = $1', [promptId]))
    ?.attempts;
}

/** Candidates that are stored already, by their index. */
export async function listCandidateIndexes(tx: Tx, promptId: string): Promise<number[]> {
  const rows = await tx.query<{ choice: number }>(
    `SELECT choice FROM responses WHERE prompt_id = $1 AND purpose = 'candidate' AND choice IS NOT NULL ORDER BY choice`,
    [promptId],
  );
  return rows.map((row) => row.choice);
}

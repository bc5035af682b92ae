import type { Tx } from '@tuneloop/runtime/pg/database';

/** Where a checkpoint's weights come from, all the way back. */
export interface Lineage {
  readonly job_id?: string;
  readonly request_id?: string | null;
  readonly dataset_version_id?: string;
  readonly dataset_hash?: string;
  readonly start_from?: string;
  readonly reference?: string;
}

export interface CheckpointRow {
  id: string;
  project_id: string;
  job_id: string | null;
  slot: string;
  origin: 'trained' | 'posted';
  version: string;
  storage_key: string;
  url: string | null;
  sha256: string | null;
  base_model: string | null;
  model_name: string | null;
  step: number | null;
  epoch: number;
  avg_reward: number | null;
  metrics: Record<string, unknown>;
  lineage: Lineage;
  manifest: Record<string, unknown>;
  is_active: boolean;
  created_at: Date;
  updated_at: Date;
}

export type NewCheckpoint = Omit<CheckpointRow, 'project_id' | 'created_at' | 'updated_at' | 'is_active'>;

/** Undefined when the job has its checkpoint already. */
export async function insertCheckpoint(tx: Tx, row: NewCheckpoint): Promise<CheckpointRow | undefined> {
  return tx.one<CheckpointRow>(
    `INSERT INTO checkpoints (id, project_id, job_id, slot, origin, version, storage_key, url, sha256, base_model,
       model_name, step, epoch, avg_reward, metrics, lineage, manifest)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
     ON CONFLICT (job_id) WHERE job_id IS NOT NULL DO NOTHING RETURNING *`,
    [
      row.id,
      tx.projectId,
      row.job_id,
      row.slot,
      row.origin,
      row.version,
      row.storage_key,
      row.url,
      row.sha256,
      row.base_model,
      row.model_name,
      row.step,
      row.epoch,
      row.avg_reward,
      JSON.stringify(row.metrics),
      JSON.stringify(row.lineage),
      JSON.stringify(row.manifest),
    ],
  );
}

export async function findCheckpointById(tx: Tx, id: string): Promise<CheckpointRow | undefined> {
  return tx.one<CheckpointRow>('SELECT * FROM checkpoints WHERE id = $1', [id]);
}

export async function findCheckpointByName(tx: Tx, modelName: string): Promise<CheckpointRow | undefined> {
  return tx.one<CheckpointRow>('SELECT * FROM checkpoints WHERE model_name = $1', [modelName]);
}

export async function findCheckpointByJob(tx: Tx, jobId: string): Promise<CheckpointRow | undefined> {
  return tx.one<CheckpointRow>('SELECT * FROM checkpoints WHERE job_id = $1', [jobId]);
}

/** Names of the models of these jobs, for lists. */
export async function modelNamesOfJobs(tx: Tx, jobIds: readonly string[]): Promise<Map<string, string>> {
  const rows = await tx.query<{ job_id: string; model_name: string }>(
    'SELECT job_id, model_name FROM checkpoints WHERE job_id = ANY($1::uuid[]) AND model_name IS NOT NULL',
    [jobIds],
  );
  return new Map(rows.map((row) => [row.job_id, row.model_name]));
}

export interface CheckpointFilter {
  readonly slot?: string | undefined;
  readonly version?: string | undefined;
  readonly jobId?: string | undefined;
  readonly activeOnly?: boolean;
}

const MATCHES = `($1::text IS NULL OR slot = $1) AND ($2::text IS NULL OR version = $2) AND (NOT $3 OR is_active)
  AND ($4::uuid IS NULL OR job_id = $4)`;

function filterValues(filter: CheckpointFilter): unknown[] {
  return [filter.slot ?? null, filter.version ?? null, filter.activeOnly ?? false, filter.jobId ?? null];
}

/** Newest first. */
export async function listCheckpoints(
  tx: Tx,
  filter: CheckpointFilter,
  page: { readonly limit: number; readonly before?: string | undefined; readonly offset?: number },
): Promise<CheckpointRow[]> {
  return tx.query<CheckpointRow>(
    `SELECT * FROM checkpoints WHERE ${MATCHES} AND ($5::uuid IS NULL OR id < $5) ORDER BY id DESC LIMIT $6 OFFSET $7`,
    [...filterValues(filter), page.before ?? null, page.limit, page.offset ?? 0],
  );
}

export interface CheckpointStatistics {
  total_checkpoints: number;
  active_checkpoints: number;
  latest_epoch: number;
  best_avg_reward: number;
  versions: string[];
}

export async function countCheckpoints(tx: Tx, filter: CheckpointFilter): Promise<number> {
  const row = await tx.one<{ count: number }>(
    `SELECT count(*) AS count FROM checkpoints WHERE ${MATCHES}`,
    filterValues(filter),
  );
  return row!.count;
}

/** Most versions named in statistics. */
const MAX_VERSIONS = 1_000;

export async function checkpointStatistics(tx: Tx, filter: CheckpointFilter): Promise<CheckpointStatistics> {
  const row = await tx.one<CheckpointStatistics>(
    `SELECT count(*) AS total_checkpoints, count(*) FILTER (WHERE is_active) AS active_checkpoints,
       coalesce(max(epoch), 0) AS latest_epoch, coalesce(max(avg_reward), 0) AS best_avg_reward,
       coalesce((array_agg(DISTINCT version))[1:${MAX_VERSIONS}], '{}') AS versions
     FROM checkpoints WHERE ${MATCHES}`,
    filterValues(filter),
  );
  return row!;
}

const CHANGEABLE = ['version', 'storage_key', 'url', 'epoch', 'avg_reward', 'metrics', 'sha256', 'base_model'] as const;

/** Columns that may change; what is left out, or undefined, stays. */
export type CheckpointChange = { readonly [K in (typeof CHANGEABLE)[number]]?: CheckpointRow[K] | undefined };

export async function updateCheckpoint(tx: Tx, id: string, change: CheckpointChange): Promise<CheckpointRow> {
  const columns = CHANGEABLE.filter((column) => change[column] !== undefined);
  const values = columns.map((column) => (column === 'metrics' ? JSON.stringify(change.metrics) : change[column]));
  const assignments = columns.map((column, index) => `${column} = $${index + 2}, `).join('');
  const row = await tx.one<CheckpointRow>(
    `UPDATE checkpoints SET ${assignments}updated_at = now() WHERE id = $1 RETURNING *`,
    [id, ...values],
  );
  return row!;
}

/** The slot's only active checkpoint from now on; null leaves none. The slot's row must be locked. */
export async function setActiveCheckpoint(tx: Tx, slot: string, id: string | null): Promise<void> {
  await tx.execute(
    'UPDATE checkpoints SET is_active = false, updated_at = now() WHERE slot = $1 AND is_active AND id IS DISTINCT FROM $2',
    [slot, id],
  );
  if (id !== null) {
    await tx.execute('UPDATE checkpoints SET is_active = true, updated_at = now() WHERE id = $1 AND NOT is_active', [
      id,
    ]);
  }
}

export async function deleteCheckpoint(tx: Tx, id: string): Promise<void> {
  await tx.execute('DELETE FROM checkpoints WHERE id = $1', [id]);
}

export async function countTrained(tx: Tx, slot: string): Promise<number> {
  const row = await tx.one<{ count: number }>(
    `SELECT count(*) AS count FROM checkpoints WHERE slot = $1 AND origin = 'trained'`,
    [slot],
  );
  return row!.count;
}

export interface TouchedCheckpoint
  extends Pick<CheckpointRow, 'id' | 'model_name' | 'version' | 'slot' | 'is_active' | 'created_at'> {
  readonly dataset_version_id: string;
}

/** Checkpoints that learnt from any of these dataset versions, by themselves or by what they started from. */
export async function findCheckpointsOfVersions(tx: Tx, versionIds: readonly string[]): Promise<TouchedCheckpoint[]> {
  return tx.query<TouchedCheckpoint>(
    `WITH RECURSIVE touched AS (
       SELECT c.id, c.model_name, c.lineage->>'dataset_version_id' AS dataset_version_id FROM checkpoints c
       WHERE c.lineage->>'dataset_version_id' = ANY($1)
       UNION
       SELECT c.id, c.model_name, t.dataset_version_id FROM touched t
       JOIN checkpoints c ON c.lineage->>'start_from' IN (t.id::text, t.model_name)
     )
     SELECT DISTINCT ON (c.id) c.id, c.model_name, c.version, c.slot, c.is_active, c.created_at, t.dataset_version_id
     FROM touched t JOIN checkpoints c ON c.id = t.id ORDER BY c.id, t.dataset_version_id`,
    [versionIds],
  );
}

import type { deploymentChanged, checkpointCreated } from '@tuneloop/contracts/trainer/events';
import type { aliasTarget } from '@tuneloop/contracts/responses/http';
import type { Tx } from '@tuneloop/runtime/pg/database';
import type { z } from 'zod';
import type { WeightedTarget } from '../domain/target.ts';

export type Deployment = z.output<typeof deploymentChanged.schema>;
export type Checkpoint = z.output<typeof checkpointCreated.schema>;
export type AliasTarget = z.output<typeof aliasTarget>;

/** Keeps the highest version of each slot. */
export async function upsertDeployments(tx: Tx, deployments: readonly Deployment[]): Promise<void> {
  await tx.execute(
    `INSERT INTO deployments (project_id, slot, version, targets, changed_at)
     SELECT $1, slot, version, targets, changed_at FROM jsonb_to_recordset($2::jsonb)
       AS r(slot text, version int, targets jsonb, changed_at timestamptz)
     ON CONFLICT (project_id, slot) DO UPDATE
       SET version = EXCLUDED.version, targets = EXCLUDED.targets, changed_at = EXCLUDED.changed_at
     WHERE deployments.version < EXCLUDED.version`,
    [tx.projectId, JSON.stringify(deployments)],
  );
}

export interface SlotState {
  readonly targets: WeightedTarget[] | null;
  /** Whether the trainer has been asked once what it deploys for this project. */
  readonly synced: boolean;
}

export async function findSlot(tx: Tx, slot: string): Promise<SlotState> {
  const row = await tx.one<SlotState>(
    `SELECT (SELECT targets FROM deployments WHERE project_id = $1 AND slot = $2) AS targets,
       EXISTS (SELECT 1 FROM deployment_syncs WHERE project_id = $1) AS synced`,
    [tx.projectId, slot],
  );
  return row!;
}

export async function markDeploymentsSynced(tx: Tx): Promise<void> {
  await tx.execute('INSERT INTO deployment_syncs (project_id) VALUES ($1) ON CONFLICT DO NOTHING', [tx.projectId]);
}

export interface SlotRow {
  readonly slot: string;
  readonly targets: WeightedTarget[];
  readonly changed_at: Date;
}

export async function listSlots(tx: Tx, limit: number): Promise<SlotRow[]> {
  return tx.query<SlotRow>(
    'SELECT slot, targets, changed_at FROM deployments WHERE project_id = $1 ORDER BY slot LIMIT $2',
    [tx.projectId, limit],
  );
}

export interface TunedModelRow {
  readonly checkpoint_id: string;
  readonly model_name: string;
  readonly base_model: string;
  readonly storage_key: string;
  readonly created_at: Date;
  readonly deleted_at: Date | null;
}

export async function insertTunedModel(tx: Tx, checkpoint: Checkpoint): Promise<void> {
  await tx.execute(
    `INSERT INTO tuned_models (checkpoint_id, project_id, model_name, base_model, storage_key)
     VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING`,
    [checkpoint.checkpoint_id, tx.projectId, checkpoint.model_name, checkpoint.base_model, checkpoint.storage_key],
  );
}

export async function findTunedModel(
  tx: Tx,
  by: { readonly name: string } | { readonly checkpointId: string },
): Promise<TunedModelRow | undefined> {
  const [column, value] = 'name' in by ? ['model_name', by.name] : ['checkpoint_id', by.checkpointId];
  return tx.one<TunedModelRow>(
    `SELECT checkpoint_id, model_name, base_model, storage_key, created_at, deleted_at FROM tuned_models
     WHERE project_id = $1 AND ${column} = $2`,
    [tx.projectId, value],
  );
}

/** Newest first. */
export async function listTunedModels(tx: Tx, limit: number): Promise<TunedModelRow[]> {
  return tx.query<TunedModelRow>(
    `SELECT checkpoint_id, model_name, base_model, storage_key, created_at, deleted_at FROM tuned_models
     WHERE project_id = $1 AND deleted_at IS NULL ORDER BY created_at DESC, checkpoint_id LIMIT $2`,
    [tx.projectId, limit],
  );
}

export async function deleteTunedModel(tx: Tx, name: string): Promise<boolean> {
  const deleted = await tx.execute(
    `UPDATE tuned_models SET deleted_at = now() WHERE project_id = $1 AND model_name = $2 AND deleted_at IS NULL`,
    [tx.projectId, name],
  );
  return deleted === 1;
}

export interface AliasRow {
  readonly alias: string;
  readonly target: AliasTarget;
  readonly created_at: Date;
  readonly updated_at: Date;
}

export async function findAlias(tx: Tx, alias: string): Promise<AliasRow | undefined> {
  return tx.one<AliasRow>(
    'SELECT alias, target, created_at, updated_at FROM model_aliases WHERE project_id = $1 AND alias = $2',
    [tx.projectId, alias],
  );
}

export async function listAliases(tx: Tx, after: string | undefined, limit: number): Promise<AliasRow[]> {
  return tx.query<AliasRow>(
    `SELECT alias, target, created_at, updated_at FROM model_aliases
     WHERE project_id = $1 AND ($2::text IS NULL OR alias > $2) ORDER BY alias LIMIT $3`,
    [tx.projectId, after ?? null, limit],
  );
}

export async function upsertAlias(tx: Tx, alias: string, target: AliasTarget): Promise<AliasRow> {
  const row = await tx.one<AliasRow>(
    `INSERT INTO model_aliases (project_id, alias, target) VALUES ($1, $2, $3)
     ON CONFLICT (project_id, alias) DO UPDATE SET target = EXCLUDED.target, updated_at = now()
     RETURNING alias, target, created_at, updated_at`,
    [tx.projectId, alias, JSON.stringify(target)],
  );
  return row!;
}

export async function deleteAlias(tx: Tx, alias: string): Promise<boolean> {
  return (
    (await tx.execute('DELETE FROM model_aliases WHERE project_id = $1 AND alias = $2', [tx.projectId, alias])) === 1
  );
}

import type { deploymentTarget } from '@tuneloop/contracts/trainer/events';
import type { Tx } from '@tuneloop/runtime/pg/database';
import type { z } from 'zod';
import type { SpendingHistory } from '../domain/gateSpending.ts';

export type DeploymentTarget = z.output<typeof deploymentTarget>;

export interface SlotRow {
  slot: string;
  deployment_version: number;
  allow_posted: boolean;
  spending: SpendingHistory | null;
  spending_groups: string[] | null;
  spending_version: number;
}

export interface DeploymentRow {
  slot: string;
  version: number;
  targets: DeploymentTarget[];
  changed_by: string;
  reason: string;
  restores: number | null;
  changed_at: Date;
}

/** The slot's row, made when it is not there, locked for this transaction: changes of a slot go one after the other. */
export async function lockSlot(tx: Tx, slot: string): Promise<SlotRow> {
  await tx.execute('INSERT INTO slots (project_id, slot) VALUES ($1, $2) ON CONFLICT DO NOTHING', [tx.projectId, slot]);
  const row = await tx.one<SlotRow>('SELECT * FROM slots WHERE slot = $1 FOR UPDATE', [slot]);
  return row!;
}

export async function findSlot(tx: Tx, slot: string): Promise<SlotRow | undefined> {
  return tx.one<SlotRow>('SELECT * FROM slots WHERE slot = $1', [slot]);
}

export async function setAllowPosted(tx: Tx, slot: string, allow: boolean): Promise<void> {
  await tx.execute('UPDATE slots SET allow_posted = $2 WHERE slot = $1', [slot, allow]);
}

/** What serves; undefined before the slot's first deployment. */
export async function currentDeployment(tx: Tx, slot: string): Promise<DeploymentRow | undefined> {
  return tx.one<DeploymentRow>(
    `SELECT d.* FROM slots s JOIN deployments d ON d.project_id = s.project_id AND d.slot = s.slot
       AND d.version = s.deployment_version WHERE s.slot = $1`,
    [slot],
  );
}

export async function listCurrentDeployments(
  tx: Tx,
  limit: number,
): Promise<(DeploymentRow & { allow_posted: boolean })[]> {
  return tx.query(
    `SELECT d.*, s.allow_posted FROM slots s JOIN deployments d ON d.project_id = s.project_id AND d.slot = s.slot
       AND d.version = s.deployment_version ORDER BY s.slot LIMIT $1`,
    [limit],
  );
}

/** Newest first. */
export async function listDeploymentHistory(
  tx: Tx,
  slot: string,
  limit: number,
  before: number | undefined,
): Promise<DeploymentRow[]> {
  return tx.query<DeploymentRow>(
    'SELECT * FROM deployments WHERE slot = $1 AND ($3::int IS NULL OR version < $3) ORDER BY version DESC LIMIT $2',
    [slot, limit, before ?? null],
  );
}

/** The last deployment before this version whose targets were others. */
export async function findEarlierDeployment(
  tx: Tx,
  slot: string,
  before: number,
  targets: readonly DeploymentTarget[],
): Promise<DeploymentRow | undefined> {
  return tx.one<DeploymentRow>(
    `SELECT * FROM deployments WHERE slot = $1 AND version < $2 AND targets <> $3::jsonb ORDER BY version DESC LIMIT 1`,
    [slot, before, JSON.stringify(targets)],
  );
}

/** Makes the next version the one that serves. The slot's row must be locked. */
export async function insertDeployment(
  tx: Tx,
  slot: SlotRow,
  row: Pick<DeploymentRow, 'targets' | 'changed_by' | 'reason' | 'restores' | 'changed_at'>,
): Promise<DeploymentRow> {
  const version = slot.deployment_version + 1;
  const stored = await tx.one<DeploymentRow>(
    `INSERT INTO deployments (project_id, slot, version, targets, changed_by, reason, restores, changed_at)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING *`,
    [
      tx.projectId,
      slot.slot,
      version,
      JSON.stringify(row.targets),
      row.changed_by,
      row.reason,
      row.restores,
      row.changed_at,
    ],
  );
  await tx.execute('UPDATE slots SET deployment_version = $2 WHERE slot = $1', [slot.slot, version]);
  return stored!;
}

export async function storeSpending(
  tx: Tx,
  slot: string,
  spending: SpendingHistory,
  groups: readonly string[],
): Promise<void> {
  await tx.execute(
    `UPDATE slots SET spending = $2, spending_groups = $3, spending_version = spending_version + 1 WHERE slot = $1`,
    [slot, JSON.stringify(spending), JSON.stringify(groups)],
  );
}

/** Whether any slot serves, or once served, this checkpoint: then its record stays. */
export async function isCheckpointServing(tx: Tx, checkpointId: string): Promise<boolean> {
  const row = await tx.one(
    `SELECT 1 FROM slots s JOIN deployments d ON d.project_id = s.project_id AND d.slot = s.slot
       AND d.version = s.deployment_version WHERE d.targets @> $1::jsonb LIMIT 1`,
    [JSON.stringify([{ checkpoint_id: checkpointId }])],
  );
  return row !== undefined;
}

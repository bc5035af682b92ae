import type { DatasetSpec } from '@tuneloop/contracts/datasets/events';
import { deterministicId } from '@tuneloop/runtime/ids';
import type { Tx } from '@tuneloop/runtime/pg/database';
import { type FreezeRow, insertFreeze } from '../store/freezes.ts';
import { insertDataset } from '../store/datasets.ts';

/** Wakes whoever does leased work. */
export interface Freezer {
  wake(): void;
}

export interface TrainingFreeze {
  readonly requestId: string;
  readonly kind: string;
  readonly spec: DatasetSpec;
  readonly correlationId: string | null;
  readonly causationId: string;
  readonly requestedBy: string;
}

/** One dataset per kind and slot takes the versions of all training requests. */
export async function requestTrainingFreeze(tx: Tx, freezer: Freezer, request: TrainingFreeze): Promise<void> {
  const { kind, spec } = request;
  const datasetId = deterministicId('dataset', tx.projectId ?? '', kind, spec.slot);
  if (kind === 'sft' || kind === 'dpo') {
    const name = `Feedback for ${kind}, slot ${spec.slot}`;
    await insertDataset(tx, {
      id: datasetId,
      name,
      kind,
      slot: spec.slot,
      source: 'training',
      created_by: 'service:datasets',
    });
  }
  await insertFreeze(tx, {
    id: request.requestId,
    dataset_id: datasetId,
    kind,
    spec,
    announced: true,
    correlation_id: request.correlationId,
    causation_id: request.causationId,
    requested_by: request.requestedBy,
  });
  tx.afterCommit(() => freezer.wake());
}

/** A version that a person asked for; nobody is told but those who look. */
export async function requestManualFreeze(
  tx: Tx,
  freezer: Freezer,
  request: { id: string; datasetId: string; spec: DatasetSpec; requestedBy: string },
): Promise<FreezeRow> {
  const row = await insertFreeze(tx, {
    id: request.id,
    dataset_id: request.datasetId,
    kind: request.spec.kind,
    spec: request.spec,
    announced: false,
    correlation_id: null,
    causation_id: null,
    requested_by: request.requestedBy,
  });
  tx.afterCommit(() => freezer.wake());
  return row;
}

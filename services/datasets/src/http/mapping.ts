import { HELD_BACK } from '../domain/validation.ts';
import type { DatasetOverview } from '../store/datasets.ts';
import type { FreezeRow } from '../store/freezes.ts';
import type { VersionRow } from '../store/versions.ts';

export function versionBody(row: VersionRow) {
  const heldBack = row.validation.warnings.find((finding) => finding.code === HELD_BACK);
  const { train_examples: train, validation_examples: validation, test_examples: test } = row;
  return {
    id: row.id,
    dataset_id: row.dataset_id,
    number: row.number,
    kind: row.kind,
    content_hash: row.content_hash,
    examples: train + validation + test,
    splits: { train, validation, test },
    test_groups: row.test_groups,
    test_fingerprint: row.test_fingerprint,
    query: row.query,
    leaked_groups: row.leaked_groups,
    open_quarantine: row.open_quarantine,
    ...(heldBack ? { held_back: { count: heldBack.count, lines: heldBack.examples.map(Number) } } : {}),
    erased_examples: row.erased_examples,
    created_at: row.created_at.toISOString(),
  };
}

export function publicVersionBody(row: VersionRow) {
  return { ...versionBody(row), validation: row.validation, created_by: row.created_by };
}

export function buildBody(row: FreezeRow) {
  return {
    id: row.id,
    status: row.status,
    code: row.code,
    reason: row.reason,
    dataset_version_id: row.dataset_version_id,
    created_at: new Date(row.created_at).toISOString(),
    settled_at: row.settled_at === null ? null : new Date(row.settled_at).toISOString(),
  };
}

export function datasetBody(row: DatasetOverview) {
  return { ...row, last_build: row.last_build === null ? null : buildBody(row.last_build) };
}

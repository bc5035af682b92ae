import { createHmac } from 'node:crypto';

export type Split = 'train' | 'validation' | 'test';

/** In the order in which a version is read and hashed. */
export const SPLIT_ORDER: readonly Split[] = ['train', 'validation', 'test'];

/** Shares in [0, 1] of the groups; what is left is train. */
export interface SplitShares {
  readonly validation: number;
  readonly test: number;
}

/** 48 bits of the hash: exact in a double. */
const POINT_BYTES = 6;
const LABEL = 'tuneloop split v1';

/** Where a group lies in [0, 1): the same in every process, release and installation, and unlike in every project. */
export function splitPoint(projectId: string, groupKey: string): number {
  const digest = createHmac('sha256', `${LABEL}\n${projectId}`).update(groupKey).digest();
  return digest.readUIntBE(0, POINT_BYTES) / 2 ** (8 * POINT_BYTES);
}

/** The split that a group draws when it is first seen. Test is drawn first, so that it keeps its share in any case. */
export function drawSplit(projectId: string, groupKey: string, shares: SplitShares): Split {
  const point = splitPoint(projectId, groupKey);
  if (point < shares.test) return 'test';
  return point < shares.test + shares.validation ? 'validation' : 'train';
}

/** The split of groups that turned out to be one: test wins, then validation. */
export function mergedSplit(splits: readonly Split[]): Split {
  if (splits.includes('test')) return 'test';
  return splits.includes('validation') ? 'validation' : 'train';
}

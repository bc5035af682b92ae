import { pointOf } from './hashes.ts';

/** Which weights answer, and where they run. */
export interface ModelTarget {
  readonly provider: 'local' | 'upstream';
  /** Base model of the local engine, or the upstream's own model name. */
  readonly model: string;
  readonly checkpointId: string | null;
  readonly storageKey: string | null;
  readonly slot: string;
}

const CHECKPOINT_NAME = /^(.+):ckpt-([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})$/;
const BASE_NAME = /^(.+):base$/;

/** The immutable name of what answers: `nano`, or `nano:ckpt-<uuid>`. Two different weights never share one. */
export function immutableName(target: Pick<ModelTarget, 'model' | 'checkpointId'>): string {
  return target.checkpointId === null ? target.model : `${target.model}:ckpt-${target.checkpointId}`;
}

/** `nano:ckpt-<uuid>` or `nano:base`, which ask for exactly these weights, whatever is deployed. */
export function parseImmutableName(name: string): { model: string; checkpointId: string | null } | undefined {
  const checkpoint = CHECKPOINT_NAME.exec(name);
  if (checkpoint) return { model: checkpoint[1]!, checkpointId: checkpoint[2]! };
  const base = BASE_NAME.exec(name);
  return base ? { model: base[1]!, checkpointId: null } : undefined;
}

export interface WeightedTarget {
  readonly checkpoint_id: string | null;
  readonly base_model: string;
  readonly storage_key: string | null;
  readonly weight: number;
}

/**
 * Chooses one side of a weighted split. The same user gets the same side for as long as the weights stay; without a
 * user each request is on its own.
 * @param random in [0, 1), used without a user
 */
export function pickTarget(
  targets: readonly WeightedTarget[],
  sticky: { readonly projectId: string; readonly slot: string; readonly user: string | null },
  random: number,
): WeightedTarget {
  const first = targets[0];
  if (!first) throw new Error('a deployment without targets');
  const total = targets.reduce((sum, target) => sum + target.weight, 0);
  if (total <= 0) return first;
  const point = (sticky.user === null ? random : pointOf('split', sticky.projectId, sticky.slot, sticky.user)) * total;
  let passed = 0;
  for (const target of targets) {
    passed += target.weight;
    if (point < passed) return target;
  }
  return targets.findLast((target) => target.weight > 0) ?? first;
}

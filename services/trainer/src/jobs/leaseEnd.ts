import type { Lease } from '@tuneloop/runtime/leases';
import type { Tx } from '@tuneloop/runtime/pg/database';

/** A task that failed in passing waits this long before its next try, doubled each time. */
const FIRST_BACKOFF_MS = 2_000;
const MAX_BACKOFF_MS = 60_000;
/** Tries in a row without any progress after which it has failed for good: over four minutes with the waits above. */
export const MAX_ATTEMPTS = 9;

export function backoffMs(attempts: number): number {
  return Math.min(MAX_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** Math.max(0, attempts - 1));
}

/** Lets the row rest before anyone claims it again. Nothing happens when it was taken over. */
export async function retryLater(
  tx: Tx,
  table: 'training_jobs' | 'evaluations',
  lease: Pick<Lease, 'id' | 'epoch'>,
  waitMs: number,
): Promise<void> {
  await tx.execute(
    `UPDATE ${table} SET lease_owner = NULL, lease_until = now() + make_interval(secs => $3::float8 / 1000)
     WHERE id = $1 AND lease_epoch = $2`,
    [lease.id, lease.epoch, waitMs],
  );
}

/** The holder stops for a reason of its own: the try does not count, and the row is due at once. */
export async function giveBack(
  tx: Tx,
  table: 'training_jobs' | 'evaluations',
  lease: Pick<Lease, 'id' | 'epoch'>,
): Promise<void> {
  await tx.execute(
    `UPDATE ${table} SET lease_owner = NULL, lease_until = NULL, attempts = greatest(attempts - 1, 0)
     WHERE id = $1 AND lease_epoch = $2`,
    [lease.id, lease.epoch],
  );
}

import type { NatsAccountAccess } from '@tuneloop/local/nats';

/** Where workers find the broker: its URL with a secret path. */
export const BROKER_ENV = 'TUNELOOP_TEST_BROKER';

export interface PostgresAccess {
  /** Superuser of the cluster, in some database that tests do not drop. */
  adminUrl: string;
}

/** A NATS account for one test file. */
export interface NatsLease extends NatsAccountAccess {
  url: string;
}

import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  createNatsAccountPair,
  createNatsOperator,
  type NatsAccountPair,
  type NatsOperator,
  signServiceUser,
} from '@tuneloop/runtime/bus/natsCredentials';

const FILE = 'identity.json';
const FORMAT = 1;

/** Keys of a local server: made once per store directory, kept with it. */
export interface NatsIdentity {
  format: typeof FORMAT;
  operator: NatsOperator;
  accounts: (NatsAccountPair & { serviceCreds: string })[];
}

/**
 * Reads the store's keys, making them (0600) the first time and adding accounts that are missing. Streams belong to
 * account keys, so a lost file would hide every stream of the store.
 */
export async function loadNatsIdentity(storeDir: string, accountNames: readonly string[]): Promise<NatsIdentity> {
  const path = join(storeDir, FILE);
  const identity: NatsIdentity = existsSync(path)
    ? parse(path)
    : { format: FORMAT, operator: await createNatsOperator('tuneloop'), accounts: [] };
  const known = new Set(identity.accounts.map((account) => account.name));
  const missing = accountNames.filter((name) => !known.has(name));
  for (const name of missing) {
    const pair = await createNatsAccountPair(identity.operator, name);
    const serviceCreds = await signServiceUser({ accountSeed: pair.services.seed, name: 'services' });
    identity.accounts.push({ ...pair, serviceCreds });
  }
  if (missing.length > 0) {
    const partial = `${path}.${process.pid}.partial`;
    writeFileSync(partial, JSON.stringify(identity, undefined, 1), { mode: 0o600 });
    renameSync(partial, path);
  }
  return identity;
}

function parse(path: string): NatsIdentity {
  const value: unknown = JSON.parse(readFileSync(path, 'utf8'));
  if (!isIdentity(value))
    throw new Error(`${path} is not a NATS identity of format ${FORMAT}; restore it from a backup`);
  return value;
}

/** The file is written whole by this module alone, so its format number stands for the rest. */
function isIdentity(value: unknown): value is NatsIdentity {
  return typeof value === 'object' && value !== null && 'format' in value && value.format === FORMAT;
}

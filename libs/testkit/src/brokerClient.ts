import { BROKER_ENV, type NatsLease, type PostgresAccess } from './brokerProtocol.ts';

/** A cold server start on a busy machine, and initdb before it. */
const REQUEST_TIMEOUT_MS = 110_000;

async function ask(path: string, body: object): Promise<unknown> {
  const url = process.env[BROKER_ENV];
  if (url === undefined) {
    throw new Error(`${BROKER_ENV} is not set: run tests with vitest, whose global setup starts the test servers`);
  }
  const response = await fetch(`${url}/${path}`, {
    method: 'POST',
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`the test servers could not be had: ${text}`);
  return JSON.parse(text);
}

export async function testPostgres(): Promise<PostgresAccess> {
  return (await ask('postgres', {})) as PostgresAccess;
}

export async function leaseNatsAccount(): Promise<NatsLease> {
  return (await ask('nats/lease', { pid: process.pid })) as NatsLease;
}

export async function releaseNatsAccount(account: string): Promise<void> {
  await ask('nats/release', { account });
}

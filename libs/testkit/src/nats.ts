import { jetstreamManager } from '@nats-io/jetstream';
import { connect, type ConnectionOptions, credsAuthenticator, type NatsConnection } from 'nats';
import { leaseNatsAccount, releaseNatsAccount } from './brokerClient.ts';
import type { NatsLease } from './brokerProtocol.ts';

/** A server that is already there, with the text of its credentials. One account for all: run one file at a time. */
const NATS_URL_ENV = 'TUNELOOP_TEST_NATS_URL';
const NATS_CREDS_ENV = 'TUNELOOP_TEST_NATS_CREDS';

export interface TestNats {
  url: string;
  /** Text of a `.creds` file with every right in this file's account; undefined when the given server wants none. */
  serviceCreds: string | undefined;
  /** `accountSeed` for `signProjectUser`; undefined on a given server. */
  natsAccountSeed: string | undefined;
  /** Opens a connection as a service. Closed by `close` at the latest. */
  connect(options?: ConnectionOptions): Promise<NatsConnection>;
  /** Closes this object's connections, removes the account's streams and gives the account back. */
  close(): Promise<void>;
}

/**
 * Takes a NATS account of its own for a test file, with its own JetStream: subjects, streams and consumers of other
 * files do not show. It is empty. Call `close` in `afterAll`.
 */
export async function createTestNats(): Promise<TestNats> {
  const givenUrl = process.env[NATS_URL_ENV];
  const lease: NatsLease | undefined = givenUrl === undefined ? await leaseNatsAccount() : undefined;
  const url = givenUrl ?? lease?.url ?? '';
  const serviceCreds = lease?.serviceCreds ?? process.env[NATS_CREDS_ENV];
  const connections = new Set<NatsConnection>();
  const open = async (options: ConnectionOptions = {}): Promise<NatsConnection> => {
    const connection = await connect({
      servers: url,
      ...(serviceCreds === undefined
        ? {}
        : { authenticator: credsAuthenticator(new TextEncoder().encode(serviceCreds)) }),
      ...options,
    });
    connections.add(connection);
    return connection;
  };
  const clear = async (): Promise<void> => {
    const connection = await open();
    const manager = await jetstreamManager(connection);
    for await (const name of manager.streams.names()) await manager.streams.delete(name);
    connections.delete(connection);
    await connection.close();
  };
  // Also at the start: the file that had the account before may have been killed.
  await clear();
  return {
    url,
    serviceCreds,
    natsAccountSeed: lease?.intakeSeed,
    connect: open,
    async close() {
      await Promise.all([...connections].map((connection) => connection.close()));
      connections.clear();
      await clear();
      if (lease !== undefined) await releaseNatsAccount(lease.name);
    },
  };
}

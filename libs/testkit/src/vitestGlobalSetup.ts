import { silentLog } from '@tuneloop/local/log';
import { TestBroker } from './broker.ts';
import { BROKER_ENV } from './brokerProtocol.ts';

/** Vitest's global setup: offers the run's Postgres and nats-server to the workers, and takes them down at the end. */
export async function setup(): Promise<() => Promise<void>> {
  const broker = await TestBroker.start(silentLog);
  process.env[BROKER_ENV] = broker.url;
  return () => broker.stop();
}

import { randomBytes } from 'node:crypto';
import { chmodSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type LocalNats, startNats, stopLeftoverNats } from '@tuneloop/local/nats';
import { type LocalPostgres, startPostgres } from '@tuneloop/local/postgres';
import { stopLeftoverPostgres } from '@tuneloop/local/postgresCluster';
import { isAlive } from '@tuneloop/local/processes';
import type { Log } from '@tuneloop/local/log';
import type { NatsLease, PostgresAccess } from './brokerProtocol.ts';

/** Accounts made when the server starts (the memory resolver takes none later): a few for each worker's file. */
const NATS_ACCOUNTS = 8;

/** Run directories are named by the pid that made them, so that a later run clears up after a killed one. */
const RUN_DIR_PREFIX = 'tuneloop-test-';

const MAX_BODY_BYTES = 4096;

/**
 * Runs in the test runner's main process and owns the one Postgres and the one nats-server of a run. Workers ask it
 * over loopback HTTP; each server starts when first asked for, so that a run of pure unit tests starts nothing.
 */
export class TestBroker {
  readonly #log: Log;
  readonly #runDir: string;
  readonly #server: Server;
  readonly #secret = randomBytes(16).toString('hex');
  #postgres: Promise<LocalPostgres> | undefined;
  #nats: Promise<LocalNats> | undefined;
  /** Account name to the pid of the worker that holds it. */
  readonly #leases = new Map<string, number>();

  private constructor(log: Log) {
    this.#log = log;
    this.#runDir = mkdtempSync(join(tmpdir(), `${RUN_DIR_PREFIX}${process.pid}-`));
    // Under root, Postgres runs as a user of its own that must get to its cluster inside.
    chmodSync(this.#runDir, 0o711);
    this.#server = createServer((request, response) => void this.#answer(request, response));
  }

  static async start(log: Log): Promise<TestBroker> {
    await removeDeadRuns(log);
    const broker = new TestBroker(log);
    await new Promise<void>((resolve, reject) => {
      broker.#server.once('error', reject);
      broker.#server.listen({ host: '127.0.0.1', port: 0 }, resolve);
    });
    return broker;
  }

  get url(): string {
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('the broker is not listening');
    return `http://127.0.0.1:${address.port}/${this.#secret}`;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
    // A server that failed to start has nothing to stop; its error went to the test that asked for it.
    await Promise.allSettled([
      this.#nats?.then((nats) => nats.stop()),
      this.#postgres?.then((postgres) => postgres.stop()),
    ]);
    rmSync(this.#runDir, { recursive: true, force: true });
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      const body = await readJson(request);
      const [, secret, ...path] = (request.url ?? '').split('/');
      if (secret !== this.#secret) {
        response.writeHead(404).end();
        return;
      }
      const result = await this.#handle(`${request.method} ${path.join('/')}`, body);
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(result));
    } catch (error) {
      response.writeHead(500).end(error instanceof Error ? (error.stack ?? error.message) : String(error));
    }
  }

  async #handle(route: string, body: { pid?: number; account?: string }): Promise<object> {
    switch (route) {
      case 'POST postgres': {
        this.#postgres ??= startPostgres({
          dataDir: join(this.#runDir, 'postgres'),
          database: 'postgres',
          throwaway: true,
          log: this.#log,
        });
        return { adminUrl: (await this.#postgres).url } satisfies PostgresAccess;
      }
      case 'POST nats/lease':
        return this.#lease(body.pid ?? 0);
      case 'POST nats/release':
        this.#leases.delete(body.account ?? '');
        return {};
      default:
        throw new Error(`the test broker has no ${route}`);
    }
  }

  async #lease(pid: number): Promise<NatsLease> {
    this.#nats ??= startNats({
      storeDir: join(this.#runDir, 'nats'),
      extraAccounts: Array.from({ length: NATS_ACCOUNTS }, (_, i) => `T${i}`),
      log: this.#log,
    });
    const nats = await this.#nats;
    for (const [account, holder] of this.#leases) {
      if (!isAlive(holder)) this.#leases.delete(account);
    }
    const free = nats.accounts.find((account) => account.name !== 'TL' && !this.#leases.has(account.name));
    if (free === undefined)
      throw new Error(`all ${NATS_ACCOUNTS} NATS accounts are in use: is createTestNats() closed after each file?`);
    this.#leases.set(free.name, pid);
    return { ...free, url: nats.url };
  }
}

/** Stops and removes what runs that were killed have left, so that nothing piles up on a developer's machine. */
async function removeDeadRuns(log: Log): Promise<void> {
  for (const name of readdirSync(tmpdir())) {
    const pid = Number(new RegExp(`^${RUN_DIR_PREFIX}(\\d+)-`).exec(name)?.[1]);
    if (!Number.isInteger(pid) || isAlive(pid)) continue;
    const dir = join(tmpdir(), name);
    if (statSync(dir, { throwIfNoEntry: false })?.uid !== process.getuid?.()) continue;
    await stopLeftoverNats(join(dir, 'nats'), log);
    await stopLeftoverPostgres(join(dir, 'postgres'), log);
    rmSync(dir, { recursive: true, force: true });
  }
}

async function readJson(request: IncomingMessage): Promise<{ pid?: number; account?: string }> {
  let text = '';
  for await (const chunk of request) {
    text += String(chunk);
    if (text.length > MAX_BODY_BYTES) throw new Error('body too large');
  }
  const value: unknown = text === '' ? {} : JSON.parse(text);
  if (typeof value !== 'object' || value === null) throw new Error('body is not an object');
  return {
    ...('pid' in value && typeof value.pid === 'number' ? { pid: value.pid } : {}),
    ...('account' in value && typeof value.account === 'string' ? { account: value.account } : {}),
  };
}

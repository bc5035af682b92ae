import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join, resolve } from 'node:path';
import { lockDirectory } from './directoryLock.ts';
import type { Log } from './log.ts';
import { resolveNatsServer } from './natsBinary.ts';
import { natsConfiguration } from './natsConfiguration.ts';
import { loadNatsIdentity, type NatsIdentity } from './natsIdentity.ts';
import { freePort, isAlive, openChildLog, processStartTime, stopProcess, waitUntil } from './processes.ts';
import { Supervisor } from './supervisor.ts';

/** Account that the services share; outside publishers are in `TL_INTAKE`. */
export const SERVICES_ACCOUNT = 'TL';

/** A store with many streams is read before the port opens. */
const READY_TIMEOUT_MS = 60_000;
const PROBE_TIMEOUT_MS = 1000;
const PORT_ATTEMPTS = 5;

const STOP_STEPS = [
  { signal: 'SIGTERM', waitMs: 10_000 },
  { signal: 'SIGKILL', waitMs: 5000 },
] as const;

export interface NatsOptions {
  /** Holds streams, keys (0600), configuration (0600) and log. Only one process may use it at a time. */
  storeDir: string;
  /** 0 or absent: a free one. Always on 127.0.0.1. */
  port?: number | undefined;
  /** Serve nats-server's monitoring pages on a free port of 127.0.0.1. */
  monitor?: boolean | undefined;
  /** Path of nats-server; default: `resolveNatsServer`. */
  binary?: string | undefined;
  cacheDir?: string | undefined;
  /** Further accounts beside TL, each as isolated as a server of its own (tests). */
  extraAccounts?: readonly string[] | undefined;
  /** Lines added to the configuration file, as they are. */
  extraConfig?: string | undefined;
  /** Bring the server up again, on the same port, whenever it dies. */
  supervise?: boolean | undefined;
  log: Log;
}

/** How to work in one account of the server. */
export interface NatsAccountAccess {
  name: string;
  /** Text of a `.creds` file with every right in the account, for the services. */
  serviceCreds: string;
  /** Signs outside publishers: `accountSeed` of `signProjectUser`. */
  intakeSeed: string;
  intakePublicKey: string;
}

export interface LocalNats {
  readonly url: string;
  readonly port: number;
  readonly monitorUrl: string | undefined;
  readonly pid: number | undefined;
  readonly restarts: number;
  /** Of the account TL. */
  readonly serviceCreds: string;
  /** Of the intake account that belongs to TL: signs per-project users, without a reload of the server. */
  readonly accountSigningSeed: string;
  readonly accountPublicKey: string;
  /** TL first, then the extra ones. */
  readonly accounts: readonly NatsAccountAccess[];
  stop(): Promise<void>;
}

/**
 * Starts nats-server with a JetStream file store in operator mode. Resolves once it accepts connections.
 *
 * @throws DirectoryInUseError when another process runs on this directory; Error when no nats-server can be had or the
 * port is taken
 */
export async function startNats(options: NatsOptions): Promise<LocalNats> {
  const storeDir = resolve(options.storeDir);
  mkdirSync(storeDir, { recursive: true, mode: 0o700 });
  const lock = lockDirectory(storeDir);
  try {
    const [binary, identity] = await Promise.all([
      options.binary ?? resolveNatsServer({ cacheDir: options.cacheDir, log: options.log }),
      loadNatsIdentity(storeDir, [SERVICES_ACCOUNT, ...(options.extraAccounts ?? [])]),
    ]);
    await stopLeftoverNats(storeDir, options.log);
    const server = new Server(storeDir, binary, identity, options);
    const supervisor = await server.start();
    const accounts = identity.accounts.map((account) => ({
      name: account.name,
      serviceCreds: account.serviceCreds,
      intakeSeed: account.intake.seed,
      intakePublicKey: account.intake.publicKey,
    }));
    const services = accounts.find((account) => account.name === SERVICES_ACCOUNT);
    if (services === undefined) throw new Error(`${storeDir}: the identity has no account ${SERVICES_ACCOUNT}`);
    let stopped: Promise<void> | undefined;
    return {
      url: `nats://127.0.0.1:${server.port}`,
      port: server.port,
      monitorUrl: server.monitorPort === undefined ? undefined : `http://127.0.0.1:${server.monitorPort}`,
      get pid() {
        return supervisor.pid;
      },
      get restarts() {
        return supervisor.restarts;
      },
      serviceCreds: services.serviceCreds,
      accountSigningSeed: services.intakeSeed,
      accountPublicKey: services.intakePublicKey,
      accounts,
      stop() {
        stopped ??= supervisor
          .stop()
          .then(() => rmSync(pidFile(storeDir), { force: true }))
          .finally(() => lock.release());
        return stopped;
      },
    };
  } catch (error) {
    lock.release();
    throw error;
  }
}

function pidFile(storeDir: string): string {
  return join(storeDir, 'nats.pid');
}

/** Stops a server that outlived the process that started it (a SIGKILL): two on one store would spoil it. */
export async function stopLeftoverNats(storeDir: string, log: Log): Promise<void> {
  let content: string;
  try {
    content = readFileSync(pidFile(storeDir), 'utf8');
  } catch {
    return;
  }
  const [pidText = '', startTime = ''] = content.split('\n');
  const pid = Number(pidText);
  if (!Number.isInteger(pid) || pid <= 0 || !isAlive(pid) || (processStartTime(pid) ?? '') !== startTime) return;
  log.warn({ pid, storeDir }, 'stopping the nats-server that an earlier run left on this data directory');
  await stopProcess(pid, STOP_STEPS);
}

class Server {
  readonly #dir: string;
  readonly #binary: string;
  readonly #identity: NatsIdentity;
  readonly #options: NatsOptions;
  port = 0;
  monitorPort: number | undefined;

  constructor(dir: string, binary: string, identity: NatsIdentity, options: NatsOptions) {
    this.#dir = dir;
    this.#binary = binary;
    this.#identity = identity;
    this.#options = options;
  }

  async start(): Promise<Supervisor> {
    const wanted = this.#options.port ?? 0;
    for (let attempt = 1; ; attempt += 1) {
      this.port = wanted === 0 ? await freePort() : wanted;
      if (this.#options.monitor === true) this.monitorPort = await freePort();
      writeFileSync(join(this.#dir, 'nats.conf'), this.#configuration(), { mode: 0o600 });
      try {
        return await Supervisor.start(
          {
            name: 'nats-server',
            launch: () => this.#launch(),
            stopSteps: STOP_STEPS,
          },
          { restart: this.#options.supervise ?? false, log: this.#options.log },
        );
      } catch (error) {
        const isTaken = error instanceof Error && error.message.includes('address already in use');
        if (isTaken && wanted !== 0) {
          throw new Error(`Port ${wanted} on 127.0.0.1 is taken; give nats-server another one.`, { cause: error });
        }
        if (!isTaken || attempt === PORT_ATTEMPTS) throw error;
      }
    }
  }

  #configuration(): string {
    return natsConfiguration({
      identity: this.#identity,
      listen: `127.0.0.1:${this.port}`,
      http: this.monitorPort === undefined ? undefined : `127.0.0.1:${this.monitorPort}`,
      storeDir: join(this.#dir, 'jetstream'),
      extra: this.#options.extraConfig,
    });
  }

  async #launch(): Promise<ChildProcess> {
    const logFile = openChildLog(join(this.#dir, 'nats.log'));
    try {
      const child = spawn(this.#binary, ['-c', join(this.#dir, 'nats.conf')], {
        // A process group of its own, so that a terminal's Ctrl-C reaches only the services.
        detached: true,
        windowsHide: true,
        stdio: ['ignore', logFile.fd, logFile.fd],
      });
      let failure: Error | undefined;
      child.on('error', (error) => {
        failure = error;
      });
      if (child.pid !== undefined) {
        writeFileSync(pidFile(this.#dir), `${child.pid}\n${processStartTime(child.pid) ?? ''}\n`, { mode: 0o600 });
      }
      const hasEnded = (): boolean => failure !== undefined || child.exitCode !== null || child.signalCode !== null;
      const isUp = await waitUntil(async () => hasEnded() || (await greets(this.port)), READY_TIMEOUT_MS);
      if (hasEnded()) {
        throw new Error(`nats-server did not start: ${failure?.message ?? logFile.tail()}`, { cause: failure });
      }
      if (!isUp) {
        child.kill('SIGKILL');
        throw new Error(`nats-server was not ready after ${READY_TIMEOUT_MS / 1000} s: ${logFile.tail()}`);
      }
      return child;
    } finally {
      logFile.close();
    }
  }
}

/** True when a NATS server says its first line on the port: it opens the port only when JetStream is up. */
function greets(port: number): Promise<boolean> {
  return new Promise((done) => {
    const socket = connect({ host: '127.0.0.1', port });
    const finish = (answer: boolean): void => {
      socket.destroy();
      done(answer);
    };
    socket.setTimeout(PROBE_TIMEOUT_MS, () => finish(false));
    socket.once('error', () => finish(false));
    socket.once('data', (chunk: Buffer) => finish(chunk.toString('latin1').startsWith('INFO ')));
  });
}

import { randomUUID } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { bootstrapProject } from '@tuneloop/contracts/gateway/internal';
import { defaultDataDir } from '@tuneloop/local/dataDir';
import { DirectoryInUseError } from '@tuneloop/local/directoryLock';
import { silentLog } from '@tuneloop/local/log';
import { createCallers } from '@tuneloop/runtime/callers';
import { describeError } from '@tuneloop/runtime/errors';
import { createLog, type LOG_LEVELS } from '@tuneloop/runtime/log';
import { pino } from 'pino';
import { SAMPLE_PROJECT, sampleSettings } from '../demo/sampleProject.ts';
import { runTurn, type TurnOptions } from '../demo/turn.ts';
import { ensureConsole } from './console.ts';
import { DataFiles } from './dataFiles.ts';
import { assertListenable, DoorError } from './doorPort.ts';
import { startSystem, type System } from './system.ts';
import { Terminal } from './terminal.ts';

const EXIT_PROMOTED = 0;
const EXIT_BROKEN = 1;
const EXIT_KEPT = 3;
const NANO_FOLDER = fileURLToPath(new URL('../../../../models/nano/base/', import.meta.url));

export interface StartFlags {
  readonly port: number;
  readonly host: string;
  readonly data?: string;
  readonly empty: boolean;
  readonly once: boolean;
  readonly report?: string;
  readonly seed: number;
  readonly taste: string;
  readonly labels: 'true' | 'shuffled';
  readonly processes: boolean;
  readonly logLevel: (typeof LOG_LEVELS)[number];
}

/** Boots everything, runs the turn where one is wanted, and stays until it is told to stop. */
export async function start(flags: StartFlags): Promise<void> {
  const terminal = new Terminal();
  const directory = flags.data ?? (flags.once ? defaultOnceDirectory() : defaultDataDir({ log: silentLog }));
  const files = new DataFiles(directory);
  const log = createLog({
    level: flags.logLevel,
    destination: pino.destination({ dest: join(files.logs, 'tuneloop.log'), sync: false, mkdir: true }),
  });
  const startedAt = performance.now();
  let system: System;
  try {
    terminal.line('Tuneloop');
    await assertListenable(flags.host, flags.port);
    if (!flags.once) terminal.progress('start', 'console');
    const consoleDir = flags.once ? undefined : await ensureConsole({ log });
    system = await startSystem({
      files,
      port: flags.port,
      host: flags.host,
      processes: flags.processes,
      log,
      env: { ...process.env, ...(consoleDir === undefined ? {} : { CONSOLE_DIR: consoleDir }) },
      models: { nano: NANO_FOLDER },
      onStage: (stage) => terminal.progress('start', stage),
    });
  } catch (error) {
    terminal.line(`Could not start: ${wordsOf(error)}`);
    terminal.line(`The log is in ${files.logs}`);
    process.exitCode = EXIT_BROKEN;
    return;
  }
  terminal.done(
    'ready',
    `${flags.processes ? '7 services as processes' : '7 services in one process'}, model server, Postgres, NATS`,
    (performance.now() - startedAt) / 1000,
  );

  const stopped = stopOnSignal(system, terminal, flags.once);
  try {
    await serve(flags, files, system, terminal, (performance.now() - startedAt) / 1000);
    if (!flags.once) {
      terminal.line('Press Ctrl-C to stop. The data stays in ' + directory);
      await stopped.signal;
      return;
    }
  } catch (error) {
    terminal.line(`The turn broke off: ${describeError(error)}`);
    terminal.line(`The log is in ${files.logs}`);
    process.exitCode = EXIT_BROKEN;
  }
  await stopped.stop();
  process.exit();
}

async function serve(
  flags: StartFlags,
  files: DataFiles,
  system: System,
  terminal: Terminal,
  bootSeconds: number,
): Promise<void> {
  files.write('url', system.gatewayUrl);
  files.write('connections.json', JSON.stringify({ database: system.databaseUrl, nats: system.natsUrl }));
  const { apiKey, fresh } = await ensureProject(flags, files, system);
  terminal.line(`  gateway      ${system.gatewayUrl}   (API page: ${system.gatewayUrl}/docs)`);
  terminal.line(`  API key      ${apiKey}`);
  if (!flags.once) terminal.line(`  review       ${system.gatewayUrl}/review#key=${apiKey}`);
  if (flags.empty || (!fresh && !flags.once)) return;
  const turn: TurnOptions = {
    gatewayUrl: system.gatewayUrl,
    apiKey,
    seed: flags.seed,
    taste: flags.taste,
    shuffled: flags.labels === 'shuffled',
    terminal,
  };
  const report = await runTurn(turn);
  const full = { ...report, seconds: { boot: Number(bootSeconds.toFixed(2)), ...report.seconds } };
  if (flags.report !== undefined) await writeFile(flags.report, `${JSON.stringify(full, null, 2)}\n`);
  process.exitCode = report.gate.decision === 'promoted' || !flags.once ? EXIT_PROMOTED : EXIT_KEPT;
}

/** These say what to do; of any other error its kind and causes help. */
function wordsOf(error: unknown): string {
  return error instanceof DoorError || error instanceof DirectoryInUseError ? error.message : describeError(error);
}

/** The sample project and its owner key: made at the first start, found at later ones. */
async function ensureProject(
  flags: StartFlags,
  files: DataFiles,
  system: System,
): Promise<{ apiKey: string; fresh: boolean }> {
  const callers = createCallers({
    urls: system.urls,
    service: 'cli',
    serviceSecret: system.secret,
    log: createLog({ level: 'silent' }),
  });
  try {
    const stored = files.read('api-key');
    const answer = await callers.call(
      bootstrapProject,
      { body: { ...SAMPLE_PROJECT, settings: sampleSettings(flags.taste), make_key: stored === null } },
      { projectId: SAMPLE_PROJECT.project_id, idempotencyKey: randomUUID() },
    );
    const apiKey = answer.api_key ?? stored!;
    files.write('api-key', apiKey);
    return { apiKey, fresh: answer.created };
  } finally {
    await callers.close();
  }
}

/** `--once` without `--data` is an experiment of its own: it neither finds nor leaves data. */
function defaultOnceDirectory(): string {
  return join(defaultDataDir({ log: silentLog }), 'once', `${Date.now()}-${process.pid}`);
}

function stopOnSignal(
  system: System,
  terminal: Terminal,
  once: boolean,
): { signal: Promise<void>; stop: () => Promise<void> } {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  let stopping: Promise<void> | null = null;
  const stop = (): Promise<void> => {
    stopping ??= system.stop();
    return stopping;
  };
  const onSignal = (): void => {
    if (stopping) process.exit(EXIT_BROKEN);
    terminal.line();
    terminal.line('Stopping: requests and jobs finish first. Ctrl-C again stops at once.');
    // A turn that was broken off promoted nothing.
    if (once) process.exitCode ??= EXIT_BROKEN;
    stop().then(() => {
      resolve();
      process.exit();
    }, reject);
  };
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
  return { signal: promise, stop };
}

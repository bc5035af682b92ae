import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import type { ServiceName } from '@tuneloop/contracts/services';
import type { Log } from '@tuneloop/local/log';
import { openChildLog } from '@tuneloop/local/processes';
import { Supervisor } from '@tuneloop/local/supervisor';

const START_TIMEOUT_MS = 60_000;
const STOP_STEPS = [
  { signal: 'SIGTERM', waitMs: 30_000 },
  { signal: 'SIGKILL', waitMs: 5_000 },
] as const;

export interface ServiceProcessOptions {
  readonly name: ServiceName;
  readonly main: URL;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly logFile: string;
  readonly log: Log;
  /** Told the pid of each new child: after the start and after each restart. */
  readonly onStart: (pid: number) => void;
}

/** Runs one service's `main.ts` as a process of its own and brings it up again whenever it dies. */
export async function startServiceProcess(options: ServiceProcessOptions): Promise<Supervisor> {
  return Supervisor.start(
    { name: options.name, launch: () => launch(options), stopSteps: STOP_STEPS },
    { restart: true, log: options.log },
  );
}

async function launch(options: ServiceProcessOptions): Promise<ChildProcess> {
  const output = openChildLog(options.logFile);
  const child = fork(options.main, [], {
    env: { ...options.env },
    stdio: ['ignore', output.fd, output.fd, 'ipc'],
    // Ctrl-C in a terminal goes to this process alone, which then stops its children in order.
    detached: true,
  });
  output.close();
  const deadline = AbortSignal.timeout(START_TIMEOUT_MS);
  try {
    await Promise.race([
      once(child, 'message', { signal: deadline }),
      once(child, 'exit').then(([code]) => {
        throw new Error(
          `${options.name} ended with status ${String(code)} before it was ready; see ${options.logFile}`,
        );
      }),
    ]);
  } catch (error) {
    child.kill('SIGKILL');
    throw error;
  }
  options.onStart(child.pid!);
  return child;
}

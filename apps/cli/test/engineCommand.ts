import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

const BIN = fileURLToPath(new URL('../src/bin.ts', import.meta.url));

export interface Ran {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A running `tuneloop` command with what it has printed so far. */
export class RunningCommand {
  readonly child: ChildProcess;
  stdout = '';
  stderr = '';

  constructor(args: readonly string[], cwd: string) {
    this.child = spawn(process.execPath, [BIN, ...args], { cwd, stdio: ['ignore', 'pipe', 'pipe'] });
    this.child.stdout?.on('data', (chunk: Buffer) => (this.stdout += chunk.toString()));
    this.child.stderr?.on('data', (chunk: Buffer) => (this.stderr += chunk.toString()));
  }

  /** Waits until standard output matches. @throws when the command ends before it does */
  async shows(pattern: RegExp): Promise<void> {
    const ended = once(this.child, 'close');
    while (!pattern.test(this.stdout)) {
      const more = await Promise.race([once(this.child.stdout!, 'data').then(() => true), ended.then(() => false)]);
      if (!more && !pattern.test(this.stdout))
        throw new Error(`ended without ${pattern}: ${this.stdout}${this.stderr}`);
    }
  }

  async ended(): Promise<Ran> {
    if (this.child.exitCode === null && this.child.signalCode === null) await once(this.child, 'close');
    return { status: this.child.exitCode, stdout: this.stdout, stderr: this.stderr };
  }
}

/** Runs a `tuneloop` command to its end. */
export async function tuneloop(args: readonly string[], cwd: string): Promise<Ran> {
  return await new RunningCommand(args, cwd).ended();
}

import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

/** How long one question may take, model creation included. */
const ANSWER_TIMEOUT_MS = 600_000;

/** A child process that answers each line of JSON with one of its own; the first line it prints says what it is. */
export class LineProcess {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  constructor(program: string, args: readonly string[]) {
    this.#child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#lines = createInterface({ input: this.#child.stdout! })[Symbol.asyncIterator]();
  }

  /** @throws when the process ended instead, or took too long */
  async next<T>(): Promise<T> {
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), ANSWER_TIMEOUT_MS);
    try {
      const line = await this.#lines.next();
      if (line.done === true) throw new Error(`${this.#child.spawnargs.join(' ')} ended without an answer`);
      return JSON.parse(line.value) as T;
    } finally {
      clearTimeout(timer);
    }
  }

  async ask<T>(task: object): Promise<T> {
    this.#child.stdin!.write(`${JSON.stringify(task)}\n`);
    return this.next();
  }

  close(): void {
    this.#child.kill();
  }
}

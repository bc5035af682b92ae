import type { Command } from 'commander';
import { vi } from 'vitest';

class Exit extends Error {
  readonly status: number;

  constructor(status: number) {
    super(`exit ${status}`);
    this.status = status;
  }
}

export interface Refusal {
  readonly status: number;
  readonly message: string;
}

/** How a command refuses its arguments, in this process: a process for each wrong flag is seconds for nothing. */
export async function refusal(command: Command, args: readonly string[]): Promise<Refusal> {
  let message = '';
  command.configureOutput({ writeErr: (text) => (message += text), outputError: (text) => (message += text) });
  const exit = vi.spyOn(process, 'exit').mockImplementation((code) => {
    throw new Exit(Number(code));
  });
  try {
    await command.parseAsync(args, { from: 'user' });
    return { status: 0, message };
  } catch (error) {
    if (error instanceof Exit) return { status: error.status, message };
    // As bin.ts does with what a command throws.
    return { status: 1, message: error instanceof Error ? error.message : String(error) };
  } finally {
    exit.mockRestore();
  }
}

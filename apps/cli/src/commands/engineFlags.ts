import { statSync } from 'node:fs';
import { type Command, InvalidArgumentError } from 'commander';

/** Parsers of flags of the commands that run the engine, as in flags.ts. */

/** What a shell gives for a command that was used wrongly. */
const USAGE_EXIT = 2;
/** What a shell gives for a command ended by ctrl-C. */
export const INTERRUPTED_EXIT = 130;

export interface NumberBounds {
  readonly above?: number;
  readonly min?: number;
  readonly max?: number;
}

export function decimal({ above, min, max }: NumberBounds): (text: string) => number {
  const low = above === undefined ? `of at least ${min ?? 0}` : `above ${above}`;
  const rule = max === undefined ? low : `${low} and at most ${max}`;
  return (text) => {
    const value = Number(text);
    const bad = text.trim() === '' || !Number.isFinite(value);
    if (bad || value <= (above ?? -Infinity) || value < (min ?? -Infinity) || value > (max ?? Infinity)) {
      throw new InvalidArgumentError(`give a number ${rule}.`);
    }
    return value;
  };
}

export function existingFile(text: string): string {
  if (statSync(text, { throwIfNoEntry: false })?.isFile() !== true) {
    throw new InvalidArgumentError('there is no such file.');
  }
  return text;
}

export function existingFolder(text: string): string {
  if (statSync(text, { throwIfNoEntry: false })?.isDirectory() !== true) {
    throw new InvalidArgumentError('there is no such folder.');
  }
  return text;
}

const UNITS: Readonly<Record<string, number>> = { mb: 1e6, gb: 1e9, mib: 2 ** 20, gib: 2 ** 30, m: 1e6, g: 1e9 };

/** `2GB`, `1.5 GiB`, `800MB` as bytes. */
export function memorySize(text: string): number {
  const [, number, unit] = /^\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*$/i.exec(text) ?? [];
  const factor = UNITS[unit?.toLowerCase() ?? ''];
  if (number === undefined || factor === undefined || Number(number) === 0) {
    throw new InvalidArgumentError('give a size such as 2GB or 800MB.');
  }
  return Math.floor(Number(number) * factor);
}

/** A flag's name as commander has it (`loraR`) with its words parted (`lora_r`). */
export const snakeCase = (name: string, between = '_'): string =>
  name.replace(/[A-Z]|\d+/g, (letter) => `${between}${letter.toLowerCase()}`);

/** What a command's action may ask about the way it was called. */
export interface CommandLine {
  /** Whether a flag was typed, and not defaulted. */
  given(name: string): boolean;
  /** Ends the process with a usage error. */
  usage(message: string): never;
}

export function commandLine(command: Command): CommandLine {
  return {
    given: (name) => command.getOptionValueSource(name) === 'cli',
    usage: (message) => command.error(`error: ${message}`),
  };
}

/** Makes wrong flags end with a status of their own, so that scripts can tell them from work that failed. */
export function usageExits(command: Command): void {
  command.exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : USAGE_EXIT));
}

import { accessSync, constants, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { TASTE_NAMES, tasteNamed } from '@tuneloop/nano/taste';
import { InvalidArgumentError } from 'commander';

/** Parsers of flags: each refuses at once, before anything is started, and says what to give instead. */

export function integer(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() === '' || !Number.isInteger(value) || value < min || value > max) {
      throw new InvalidArgumentError(`give a whole number from ${min} to ${max}.`);
    }
    return value;
  };
}

export function webUrl(text: string): string {
  if (!URL.canParse(text) || !/^https?:$/.test(new URL(text).protocol)) {
    throw new InvalidArgumentError('give an address such as http://127.0.0.1:8080.');
  }
  return text;
}

export function hostAddress(text: string): string {
  if (!URL.canParse(`http://${text.includes(':') ? `[${text}]` : text}:1`)) {
    throw new InvalidArgumentError('give an address of this machine: 127.0.0.1, or 0.0.0.0 for every address.');
  }
  return text;
}

export function tasteName(text: string): string {
  try {
    tasteNamed(text);
  } catch {
    throw new InvalidArgumentError(`give ${TASTE_NAMES.join(', ')}, or one of them after not-.`);
  }
  return text;
}

function isFolder(path: string): boolean | undefined {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory();
}

/** One that is there, or that can be made. */
export function dataFolder(text: string): string {
  let path = resolve(text);
  for (;;) {
    const folder = isFolderOrBelowFile(path);
    if (folder === false) throw new InvalidArgumentError(`${path} is a file: give a folder.`);
    if (folder) {
      if (isWritable(path)) return text;
      throw new InvalidArgumentError(`${path} cannot be written to: give another folder.`);
    }
    path = dirname(path);
  }
}

/** A path below a file is an error of its own to the system. */
function isFolderOrBelowFile(path: string): boolean | undefined {
  try {
    return isFolder(path);
  } catch {
    return undefined;
  }
}

/** A file that can be written when the time comes. */
export function outputFile(text: string): string {
  const folder = dirname(resolve(text));
  if (isFolderOrBelowFile(folder) !== true || !isWritable(folder)) {
    throw new InvalidArgumentError(`there is no folder ${folder} to write to.`);
  }
  if (isFolderOrBelowFile(text)) throw new InvalidArgumentError('give a file, not a folder.');
  return text;
}

/** For a flag that may be given more than once. */
export function existingFolders(text: string, before: readonly string[]): readonly string[] {
  if (isFolderOrBelowFile(text) !== true) throw new InvalidArgumentError('there is no such folder.');
  return [...before, text];
}

function isWritable(path: string): boolean {
  try {
    accessSync(path, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { errorCode, isAlive, processStartTime } from './processes.ts';

const LOCK_FILE = 'lock';

/** Stale locks met in one attempt; more would mean that processes keep dying while holding it. */
const MAX_STALE_LOCKS = 10;

interface Holder {
  pid: number;
  startTime?: string;
}

/** Someone else's live process holds the directory. */
export class DirectoryInUseError extends Error {
  readonly pid: number;
  readonly directory: string;

  constructor(directory: string, pid: number) {
    super(
      `${directory} is in use by process ${pid}. Stop that process first (kill ${pid}), or use another data directory (--data DIR).`,
    );
    this.name = 'DirectoryInUseError';
    this.pid = pid;
    this.directory = directory;
  }
}

/**
 * Takes a directory for this process until `release` or the process's end, however that comes: a lock whose holder has
 * died, or whose pid now belongs to another process, does not count.
 *
 * @throws DirectoryInUseError naming the process that holds it
 */
export function lockDirectory(directory: string): { release(): void } {
  const path = join(directory, LOCK_FILE);
  const mine = `${path}.${process.pid}.${Math.random().toString(36).slice(2)}`;
  const startTime = processStartTime(process.pid);
  const content = JSON.stringify({ pid: process.pid, ...(startTime === undefined ? {} : { startTime }) });
  writeFileSync(mine, content, { mode: 0o644, flag: 'wx' });
  try {
    for (let attempt = 0; attempt < MAX_STALE_LOCKS; attempt += 1) {
      if (tryLink(mine, path)) return { release: () => releaseIfOurs(path, content) };
      const held = readIfThere(path);
      if (held === undefined) continue;
      const holder = parseHolder(held);
      if (holder !== undefined && isHolderAlive(holder)) throw new DirectoryInUseError(directory, holder.pid);
      setAside(path, held);
    }
  } finally {
    rmSync(mine, { force: true });
  }
  throw new Error(`${path}: could not be taken; remove it if no Tuneloop process uses ${directory}`);
}

function tryLink(from: string, to: string): boolean {
  try {
    linkSync(from, to);
    return true;
  } catch (error) {
    if (errorCode(error) === 'EEXIST') return false;
    throw error;
  }
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

function parseHolder(content: string): Holder | undefined {
  try {
    const value: unknown = JSON.parse(content);
    if (typeof value !== 'object' || value === null || !('pid' in value) || typeof value.pid !== 'number')
      return undefined;
    const startTime = 'startTime' in value && typeof value.startTime === 'string' ? value.startTime : undefined;
    return { pid: value.pid, ...(startTime === undefined ? {} : { startTime }) };
  } catch {
    return undefined;
  }
}

function isHolderAlive(holder: Holder): boolean {
  if (!isAlive(holder.pid)) return false;
  return holder.startTime === undefined || processStartTime(holder.pid) === holder.startTime;
}

/**
 * Removes a stale lock. Two starters may judge the same lock stale; the slower one would then remove the quicker one's
 * fresh lock, so what was moved is looked at and put back when it is not the stale one.
 */
function setAside(path: string, stale: string): void {
  const aside = `${path}.stale.${process.pid}`;
  try {
    renameSync(path, aside);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return;
    throw error;
  }
  if (readFileSync(aside, 'utf8') !== stale) tryLink(aside, path);
  rmSync(aside, { force: true });
}

function releaseIfOurs(path: string, content: string): void {
  if (readIfThere(path) === content) rmSync(path, { force: true });
}

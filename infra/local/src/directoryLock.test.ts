import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { DirectoryInUseError, lockDirectory } from './directoryLock.ts';
import { processStartTime } from './processes.ts';

function directory(): string {
  const path = mkdtempSync(join(tmpdir(), 'tuneloop-lock-'));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

test('a held directory is refused with the holder’s pid, and free again after release', () => {
  const path = directory();
  const lock = lockDirectory(path);
  expect(() => lockDirectory(path)).toThrow(DirectoryInUseError);
  expect(() => lockDirectory(path)).toThrow(`process ${process.pid}`);
  lock.release();
  lockDirectory(path).release();
  expect(readdirSync(path)).toEqual([]);
});

test.each([
  ['of a process that has ended', JSON.stringify({ pid: 2 ** 22 + 1 })],
  ['that is cut off', '{"pid":'],
  ['that is empty', ''],
])('a lock %s does not count', (_case, content) => {
  const path = directory();
  writeFileSync(join(path, 'lock'), content);
  lockDirectory(path).release();
  expect(existsSync(join(path, 'lock'))).toBe(false);
});

test.runIf(processStartTime(process.pid) !== undefined)(
  'a lock whose pid now belongs to a later process does not count',
  () => {
    const path = directory();
    writeFileSync(join(path, 'lock'), JSON.stringify({ pid: process.ppid, startTime: 'an earlier one' }));
    lockDirectory(path).release();
    writeFileSync(join(path, 'lock'), JSON.stringify({ pid: process.ppid, startTime: processStartTime(process.ppid) }));
    expect(() => lockDirectory(path)).toThrow(DirectoryInUseError);
  },
);

test('releasing a lock that someone else has taken since leaves it', () => {
  const path = directory();
  const lock = lockDirectory(path);
  const other = JSON.stringify({ pid: process.ppid });
  writeFileSync(join(path, 'lock'), other);
  lock.release();
  expect(existsSync(join(path, 'lock'))).toBe(true);
});

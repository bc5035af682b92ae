import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { silentLog } from './log.ts';
import { type NatsSource, resolveNatsServer } from './natsBinary.ts';

function directory(): string {
  const path = mkdtempSync(join(tmpdir(), 'tuneloop-nats-'));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** A program that says a version as nats-server does. */
function program(dir: string, version: string): string {
  mkdirSync(dir, { recursive: true });
  const file = join(dir, 'nats-server');
  writeFileSync(file, `#!/bin/sh\necho "nats-server: v${version}"\n`);
  chmodSync(file, 0o755);
  return file;
}

function source(name: string, version: string, calls: string[]): NatsSource {
  return {
    name,
    fetch(work) {
      calls.push(name);
      return Promise.resolve(program(join(work, 'out'), version));
    },
  };
}

const broken = (name: string, reason: string): NatsSource => ({
  name,
  fetch: () => Promise.reject(new Error(reason)),
});

test('a server on PATH comes first, unless it is too old', async () => {
  const [old, good, cacheDir] = [directory(), directory(), directory()];
  program(old, '2.8.4');
  const wanted = program(good, '2.9.10');
  const path = `/nowhere:${old}:${good}`;
  expect(await resolveNatsServer({ cacheDir, path, sources: [], log: silentLog })).toBe(wanted);
});

test('what a source gives is cached, and used without asking again', async () => {
  const cacheDir = directory();
  const calls: string[] = [];
  const sources = [broken('first', 'unreachable'), source('second', '2.14.1', calls), source('third', '2.14.1', calls)];
  const first = await resolveNatsServer({ cacheDir, path: '', sources, log: silentLog });
  const second = await resolveNatsServer({ cacheDir, path: '', sources, log: silentLog });
  expect(first).toBe(join(cacheDir, 'nats-server', 'nats-server'));
  expect(second).toBe(first);
  expect(calls).toEqual(['second']);
  expect(readdirSync(join(cacheDir, 'nats-server'))).toEqual(['nats-server']);
});

test('resolvers side by side end with one whole program', async () => {
  const cacheDir = directory();
  const sources = [source('only', '2.10.0', [])];
  const found = await Promise.all(
    Array.from({ length: 8 }, () => resolveNatsServer({ cacheDir, path: '', sources, log: silentLog })),
  );
  expect(new Set(found).size).toBe(1);
  expect(readdirSync(join(cacheDir, 'nats-server'))).toEqual(['nats-server']);
});

test('when nothing works, the error says why each source failed and how to install it', async () => {
  const sources = [broken('one', 'refused'), source('two', 'broken', [])];
  const failing = resolveNatsServer({ cacheDir: directory(), path: '', sources, log: silentLog });
  await expect(failing).rejects.toThrow(/one: refused[\s\S]*two: what was fetched does not run[\s\S]*NATS_URL/);
});

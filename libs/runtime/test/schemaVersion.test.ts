import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { startTestService, TEST_SECRET, type TestSystem } from '@tuneloop/testkit/service';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { z } from 'zod';
import { createLog } from '../src/log.ts';
import { migrate } from '../src/migrate.ts';
import { defineService, type RunningService, startService } from '../src/service.ts';

interface Readiness {
  status: number;
  schema: { ok: boolean; detail?: string };
}

const build = (migrations: URL) =>
  defineService({ name: 'ingest', migrations, config: z.object({}), create: () => ({ routes() {}, handlers: [] }) });

const released = new URL('./counter/', import.meta.url);
let next: URL;
let folder: string;
let system: TestSystem;
let upgraded: RunningService;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tuneloop-migrations-'));
  await cp(released, folder, { recursive: true });
  await writeFile(join(folder, '0002_add_note.sql'), 'ALTER TABLE counted ADD COLUMN note text;');
  next = pathToFileURL(`${folder}/`);
  system = await startTestService(build(released));
  upgraded = await startService(build(next), {
    env: { ...system.env, PORT: '0' },
    log: createLog({ level: 'silent' }),
  });
});
afterAll(async () => {
  await upgraded?.stop();
  await system?.stop();
  await rm(folder, { recursive: true, force: true });
});

async function readiness(url: string): Promise<Readiness> {
  const answer = await fetch(`${url}/readyz`);
  const { checks } = (await answer.json()) as { checks: { schema: Readiness['schema'] } };
  return { status: answer.status, schema: checks.schema };
}

// In the order of an upgrade: each step starts from what the one before it left.
it('is not ready before the migrations that the build needs, and says which', async () => {
  const { status, schema } = await readiness(upgraded.url);
  expect(status).toBe(503);
  expect(schema.ok).toBe(false);
  expect(schema.detail).toContain('0002_add_note.sql');
  expect(schema.detail).toContain('tuneloop migrate');
  expect(await readiness(system.url('ingest'))).toEqual({ status: 200, schema: { ok: true } });
});

it('is ready once they have run; the build before it stays ready, for a rollback', async () => {
  await migrate({
    adminUrl: system.databaseUrl,
    secret: TEST_SECRET,
    sets: [{ service: 'ingest', directory: next }],
    log: createLog({ level: 'silent' }),
  });

  expect(await readiness(upgraded.url)).toEqual({ status: 200, schema: { ok: true } });
  const before = await readiness(system.url('ingest'));
  expect(before.status).toBe(200);
  expect(before.schema.detail).toContain('newer build');
});

it('is not ready on a migration that ran with another text', async () => {
  await system.sql(`UPDATE ingest.schema_migrations SET checksum = 'other' WHERE name = '0002_add_note.sql'`);

  const { status, schema } = await readiness(upgraded.url);
  expect(status).toBe(503);
  expect(schema.detail).toContain('0002_add_note.sql');
});

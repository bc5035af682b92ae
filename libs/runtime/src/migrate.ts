import { createHash, createHmac } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import type { ServiceName } from '@tuneloop/contracts/services';
import pg from 'pg';
import type { Logger } from 'pino';

/** One arbitrary constant: every migrator of one database takes the same advisory lock. */
const MIGRATION_LOCK = 7_305_219_408_001n;
const CONNECT_TIMEOUT_MS = 10_000;

export interface MigrationSet {
  readonly service: ServiceName;
  /** Folder of `NNNN_name.sql` files. */
  readonly directory: URL;
}

export interface MigrateOptions {
  /** A role that may create roles and schemas. */
  readonly adminUrl: string;
  readonly secret: string;
  readonly sets: readonly MigrationSet[];
  readonly log: Logger;
}

interface MigrationFile {
  readonly name: string;
  readonly sql: string;
  readonly checksum: string;
}

export const BASE_MIGRATIONS = new URL('../migrations/', import.meta.url);

/** Tells the runtime's own migrations from the service's in `schema_migrations`. */
const BASE_PREFIX = 'runtime/';

export function serviceRole(service: ServiceName): string {
  return `tl_${service}`;
}

/** Every service logs in as itself; its password follows from the installation's secret. */
export function servicePassword(secret: string, service: ServiceName): string {
  return createHmac('sha256', secret)
    .update(`postgres:${serviceRole(service)}`)
    .digest('base64url');
}

/** The admin URL with the service's own login. A pooler's `user.tenant` form keeps its tenant. */
export function serviceDatabaseUrl(adminUrl: string, secret: string, service: ServiceName): string {
  const url = new URL(adminUrl);
  const tenant = decodeURIComponent(url.username).split('.')[1];
  url.username = tenant ? `${serviceRole(service)}.${tenant}` : serviceRole(service);
  url.password = servicePassword(secret, service);
  return url.href;
}

/**
 * Brings each service's schema up to date: role, schema, the runtime's own tables, then the service's files in order.
 * Safe to run from several processes at once; a file that changed after it ran is an error, never rerun.
 */
export async function migrate(options: MigrateOptions): Promise<void> {
  const client = new pg.Client({ connectionString: options.adminUrl, connectionTimeoutMillis: CONNECT_TIMEOUT_MS });
  await client.connect();
  try {
    await client.query('SELECT pg_advisory_lock($1)', [MIGRATION_LOCK.toString()]);
    for (const set of options.sets) {
      await ensureSchema(client, set.service, options.secret);
      await applyFolder(client, set.service, BASE_MIGRATIONS, BASE_PREFIX, options.log);
      await applyFolder(client, set.service, set.directory, '', options.log);
    }
  } finally {
    await client.end();
  }
}

async function ensureSchema(client: pg.Client, service: ServiceName, secret: string): Promise<void> {
  const role = serviceRole(service);
  const owner = `${role}_owner`;
  for (const [name, kind] of [
    [owner, 'NOLOGIN'],
    [role, 'LOGIN'],
  ] as const) {
    const exists = await client.query('SELECT 1 FROM pg_roles WHERE rolname = $1', [name]);
    if (exists.rowCount === 0) await client.query(`CREATE ROLE ${name} ${kind} NOSUPERUSER NOBYPASSRLS NOCREATEDB`);
  }
  // The password is base64url: safe inside quotes.
  await client.query(`ALTER ROLE ${role} PASSWORD '${servicePassword(secret, service)}'`);
  const member = await client.query<{ member: boolean }>(`SELECT pg_has_role(current_user, $1, 'SET') AS member`, [
    owner,
  ]);
  if (!member.rows[0]?.member) await client.query(`GRANT ${owner} TO CURRENT_USER`);
  await client.query(`CREATE SCHEMA IF NOT EXISTS ${service} AUTHORIZATION ${owner}`);
  await client.query(`GRANT USAGE ON SCHEMA ${service} TO ${role}`);
  await client.query(`ALTER ROLE ${role} SET search_path = ${service}`);
  await client.query(`CREATE TABLE IF NOT EXISTS ${service}.schema_migrations (
    name text PRIMARY KEY, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())`);
  // A service tells whether it is ready by what has run.
  await client.query(`GRANT SELECT ON ${service}.schema_migrations TO ${role}`);
}

async function applyFolder(
  client: pg.Client,
  service: ServiceName,
  directory: URL,
  prefix: string,
  log: Logger,
): Promise<void> {
  const files = await readMigrations(directory, prefix);
  const applied = await client.query<{ name: string; checksum: string }>(
    `SELECT name, checksum FROM ${service}.schema_migrations`,
  );
  const known = new Map(applied.rows.map((row) => [row.name, row.checksum]));
  for (const file of files) {
    const checksum = known.get(file.name);
    if (checksum !== undefined) {
      if (checksum !== file.checksum) {
        throw new Error(`migration ${service}/${file.name} changed after it ran: add a new file instead`);
      }
      continue;
    }
    await applyOne(client, service, file);
    log.info({ service, migration: file.name }, 'migration applied');
  }
}

async function applyOne(client: pg.Client, service: ServiceName, file: MigrationFile): Promise<void> {
  await client.query('BEGIN');
  try {
    await client.query(`SET LOCAL ROLE ${serviceRole(service)}_owner`);
    await client.query(`SET LOCAL search_path = ${service}`);
    await client.query(file.sql);
    await client.query('RESET ROLE');
    await client.query(`INSERT INTO ${service}.schema_migrations (name, checksum) VALUES ($1, $2)`, [
      file.name,
      file.checksum,
    ]);
    await client.query('COMMIT');
  } catch (error) {
    await client.query('ROLLBACK').catch(() => undefined);
    throw new Error(`migration ${service}/${file.name} failed`, { cause: error });
  }
}

/** Everything that `migrate` brings to the schema of a service with this folder. */
export async function neededMigrations(directory: URL): Promise<MigrationFile[]> {
  return [...(await readMigrations(BASE_MIGRATIONS, BASE_PREFIX)), ...(await readMigrations(directory))];
}

/** Reads a folder's migrations in order. */
export async function readMigrations(directory: URL, prefix = ''): Promise<MigrationFile[]> {
  const names = (await readdir(directory)).filter((name) => /^\d{4}_[a-z0-9_]+\.sql$/.test(name)).toSorted();
  return Promise.all(
    names.map(async (name) => {
      const sql = await readFile(new URL(name, directory), 'utf8');
      return { name: prefix + name, sql, checksum: createHash('sha256').update(sql).digest('hex') };
    }),
  );
}

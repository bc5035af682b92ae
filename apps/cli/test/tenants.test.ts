import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { SERVICES, type ServiceName } from '@tuneloop/contracts/services';
import { FaultPoints } from '@tuneloop/runtime/faultPoints';
import { createLog } from '@tuneloop/runtime/log';
import { migrate, serviceDatabaseUrl } from '@tuneloop/runtime/migrate';
import { Database } from '@tuneloop/runtime/pg/database';
import { createTestDatabase, type TestDatabase } from '@tuneloop/testkit/database';
import { TEST_SECRET } from '@tuneloop/testkit/service';
import { Client } from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

/**
 * The tenant matrix, generated from the catalogue: every table with a project_id, every verb, two tenants, through the
 * service's own login on a pool of one connection, so that each check runs on a connection that others have used.
 */
const A = '0190aaaa-0000-7000-8000-00000000000a';
const B = '0190bbbb-0000-7000-8000-00000000000b';
const log = createLog({ level: 'silent' });

interface Column {
  column: string;
  type: string;
}
interface Table {
  service: ServiceName;
  name: string;
  required: Column[];
}

let database: TestDatabase;
let tables: Table[] = [];
const pools = new Map<ServiceName, Database>();

async function asAdmin<T>(work: (client: Client) => Promise<T>): Promise<T> {
  const client = new Client({ connectionString: database.url });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

/** A value of the type: what it says does not matter, constraints are gone. */
function sample(type: string): unknown {
  if (type === 'uuid') return randomUUID();
  if (type.startsWith('timestamp')) return new Date();
  if (['integer', 'bigint', 'smallint', 'double precision', 'numeric', 'real'].includes(type)) return 1;
  if (type === 'boolean') return false;
  if (type === 'jsonb' || type === 'json') return '{}';
  if (type === 'bytea') return Buffer.from('x');
  if (type === 'ARRAY') return '{}';
  return `t${randomUUID()}`;
}

function insertion(table: Table, projectId: string): { sql: string; values: unknown[] } {
  const columns = ['project_id', ...table.required.map((column) => `"${column.column}"`)];
  const values = [projectId, ...table.required.map((column) => sample(column.type))];
  return {
    sql: `INSERT INTO ${table.service}.${table.name} (${columns.join(', ')}) VALUES (${values.map((_, i) => `$${i + 1}`).join(', ')})`,
    values,
  };
}

beforeAll(async () => {
  database = await createTestDatabase('tenants');
  const sets = SERVICES.map((service) => ({
    service,
    directory: new URL(`../../../services/${service}/migrations/`, import.meta.url),
  })).filter((set) => existsSync(set.directory));
  await migrate({ adminUrl: database.url, secret: TEST_SECRET, sets, log });
  await asAdmin(async (client) => {
    const found = await client.query<{ service: ServiceName; name: string }>(
      `SELECT table_schema AS service, table_name AS name FROM information_schema.columns
       JOIN information_schema.tables USING (table_schema, table_name)
       WHERE column_name = 'project_id' AND table_type = 'BASE TABLE' AND table_schema = ANY($1)`,
      [SERVICES],
    );
    // Row level security depends on neither checks nor triggers, and a generic row would break them.
    const obstacles = await client.query<{ sql: string }>(
      `SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname) AS sql FROM pg_constraint c
       JOIN pg_namespace n ON n.oid = c.connamespace WHERE n.nspname = ANY($1) AND contype IN ('c', 'f')
       UNION ALL
       SELECT format('DROP TRIGGER %I ON %s', t.tgname, t.tgrelid::regclass) FROM pg_trigger t
       JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
       WHERE n.nspname = ANY($1) AND NOT t.tgisinternal ORDER BY sql`,
      [SERVICES],
    );
    for (const { sql } of obstacles.rows) await client.query(sql);
    for (const table of found.rows) {
      const columns = await client.query<Column>(
        `SELECT column_name AS column, data_type AS type FROM information_schema.columns
         WHERE table_schema = $1 AND table_name = $2 AND is_nullable = 'NO' AND column_default IS NULL
           AND is_identity = 'NO' AND is_generated = 'NEVER' AND column_name <> 'project_id'`,
        [table.service, table.name],
      );
      const full = { ...table, required: columns.rows };
      for (const projectId of [A, B]) {
        const { sql, values } = insertion(full, projectId);
        await client.query(sql, values);
      }
      tables.push(full);
    }
  });
  for (const { service } of sets) {
    pools.set(
      service,
      new Database({
        url: serviceDatabaseUrl(database.url, TEST_SECRET, service),
        schema: service,
        applicationName: 'tenants',
        log,
        faults: new FaultPoints(),
        maxConnections: 1,
      }),
    );
  }
});

afterAll(async () => {
  await Promise.all([...pools.values()].map((pool) => pool.close()));
  await database.drop();
});

async function eachTable(check: (table: Table, pool: Database, name: string) => Promise<void>): Promise<void> {
  for (const table of tables) await check(table, pools.get(table.service)!, `${table.service}.${table.name}`);
}

/** Tables that nobody may change say so before row level security is asked. */
const REFUSED = /row-level security|permission denied/;

function noneWhenDenied(error: unknown): number {
  if (error instanceof Error && error.message.startsWith('permission denied')) return 0;
  throw error;
}

describe('tenant matrix', () => {
  it('finds the tables of every service, all with forced row level security', async () => {
    expect(tables.length).toBeGreaterThan(SERVICES.length * 5);
    const bare = await asAdmin((client) =>
      client.query<{ name: string }>(
        `SELECT c.oid::regclass::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = ANY($1) AND c.relkind IN ('r', 'p') AND c.relname <> 'schema_migrations'
           AND NOT (c.relrowsecurity AND c.relforcerowsecurity)`,
        [SERVICES],
      ),
    );
    expect(bare.rows).toEqual([]);
  });

  it('runs as roles that cannot go around it', async () => {
    const roles = await asAdmin((client) =>
      client.query<{ rolname: string }>(
        `SELECT rolname FROM pg_roles WHERE rolname LIKE 'tl\\_%' AND (rolsuper OR rolbypassrls OR rolcreaterole)`,
      ),
    );
    expect(roles.rows).toEqual([]);
    for (const pool of pools.values()) {
      await expect(pool.withService((tx) => tx.query(`SET ROLE tl_${pool.schema}_owner`))).rejects.toThrow();
    }
  });

  it('SELECT: each tenant sees its own rows, nobody sees rows without a tenant', async () => {
    await eachTable(async (table, pool, name) => {
      for (const projectId of [A, B]) {
        const rows = await pool.withTenant(projectId, (tx) =>
          tx.query<{ project_id: string }>(`SELECT project_id FROM ${table.name}`),
        );
        expect(rows, name).toEqual([{ project_id: projectId }]);
      }
      expect(await pool.withService((tx) => tx.query(`SELECT 1 FROM ${table.name}`)), name).toEqual([]);
    });
  });

  it('UPDATE and DELETE: rows of another tenant are not there', async () => {
    await eachTable(async (table, pool, name) => {
      for (const verb of [`UPDATE ${table.name} SET project_id = project_id`, `DELETE FROM ${table.name}`]) {
        const touched = await pool
          .withTenant(A, (tx) => tx.execute(`${verb} WHERE project_id = $1`, [B]))
          .catch(noneWhenDenied);
        expect(touched, name).toBe(0);
      }
    });
  });

  it('INSERT and UPDATE: a row cannot be given to another tenant', async () => {
    await eachTable(async (table, pool, name) => {
      const { sql, values } = insertion(table, B);
      await expect(
        pool.withTenant(A, (tx) => tx.query(sql, values)),
        name,
      ).rejects.toThrow(REFUSED);
      await expect(
        pool.withTenant(A, (tx) => tx.query(`UPDATE ${table.name} SET project_id = $1`, [B])),
        name,
      ).rejects.toThrow(REFUSED);
      await expect(
        pool.withService((tx) => tx.query(sql, values)),
        name,
      ).rejects.toThrow(REFUSED);
    });
  });

  it('a connection reused after an aborted transaction carries nothing over', async () => {
    await eachTable(async (table, pool, name) => {
      await expect(pool.withTenant(A, (tx) => tx.query('SELECT 1 / 0'))).rejects.toThrow(/division by zero/);
      await expect(
        pool.withTenant(A, async () => {
          throw new Error('given up');
        }),
      ).rejects.toThrow('given up');
      expect(await pool.withService((tx) => tx.query(`SELECT 1 FROM ${table.name}`)), name).toEqual([]);
      const rows = await pool.withTenant(B, (tx) =>
        tx.query<{ project_id: string }>(`SELECT project_id FROM ${table.name}`),
      );
      expect(rows, name).toEqual([{ project_id: B }]);
    });
  });

  it('a service cannot read the schema of another', async () => {
    for (const pool of pools.values()) {
      for (const other of [...pools.keys()].filter((service) => service !== pool.schema)) {
        await expect(pool.withTenant(A, (tx) => tx.query(`SELECT 1 FROM ${other}.outbox`))).rejects.toThrow(
          /permission denied/,
        );
      }
    }
  });
});

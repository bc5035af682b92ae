import { createHash, randomBytes } from 'node:crypto';
import { Client, escapeIdentifier, escapeLiteral } from 'pg';
import { testPostgres } from './brokerClient.ts';

/** A server that is already there: its superuser URL. */
const DATABASE_URL_ENV = 'TUNELOOP_TEST_DATABASE_URL';

/** Key of the advisory lock under which templates are built: roles belong to the cluster, so one build at a time. */
const TEMPLATE_LOCK = 7_361_042_119;

/** Marks a template as finished; one whose build was cut off is built again. */
const COMPLETE = 'tuneloop test template';

const MAX_NAME_LENGTH = 30;

/** What a template holds. Build it once, clone it per test file. */
export interface DatabaseTemplate {
  /** Changes whenever the outcome of `migrate` does: a hash of the migration files' names and contents. */
  key: string;
  /** Fills an empty database, given as superuser. Leaves no connection open. */
  migrate(url: string): Promise<void>;
}

export interface TestDatabase {
  /** As the cluster's superuser. For a service's role, set user and password on it. */
  url: string;
  name: string;
  /** Ends every connection and drops the database. */
  drop(): Promise<void>;
}

/**
 * Makes a database for one test file: a clone of the template, or an empty one. Call `drop` in `afterAll`.
 *
 * @param name appears in the database's name, for whoever looks at a hanging test
 */
export async function createTestDatabase(name: string, template?: DatabaseTemplate): Promise<TestDatabase> {
  const adminUrl = process.env[DATABASE_URL_ENV] ?? (await testPostgres()).adminUrl;
  const label = name
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '_')
    .slice(0, MAX_NAME_LENGTH);
  const database = `test_${label}_${randomBytes(5).toString('hex')}`;
  await asAdmin(adminUrl, async (admin) => {
    const source = template === undefined ? undefined : await ensureTemplate(admin, adminUrl, template);
    // Copying files is quicker than logging them while the template is small and nothing is synced.
    const clone = source === undefined ? '' : ` TEMPLATE ${escapeIdentifier(source)} STRATEGY FILE_COPY`;
    await admin.query(`CREATE DATABASE ${escapeIdentifier(database)}${clone}`);
  });
  return {
    url: withDatabase(adminUrl, database),
    name: database,
    drop: () =>
      asAdmin(adminUrl, async (admin) => {
        await admin.query(`DROP DATABASE IF EXISTS ${escapeIdentifier(database)} WITH (FORCE)`);
      }),
  };
}

async function ensureTemplate(admin: Client, adminUrl: string, template: DatabaseTemplate): Promise<string> {
  const name = `template_${createHash('sha256').update(template.key).digest('hex').slice(0, 24)}`;
  if (await isComplete(admin, name)) return name;
  await admin.query('SELECT pg_advisory_lock($1)', [TEMPLATE_LOCK]);
  try {
    if (await isComplete(admin, name)) return name;
    await admin.query(`DROP DATABASE IF EXISTS ${escapeIdentifier(name)} WITH (FORCE)`);
    await admin.query(`CREATE DATABASE ${escapeIdentifier(name)}`);
    await template.migrate(withDatabase(adminUrl, name));
    // A clone needs a source without connections; this also ends any that the migration left behind.
    await admin.query('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1', [name]);
    await admin.query(`ALTER DATABASE ${escapeIdentifier(name)} ALLOW_CONNECTIONS false`);
    await admin.query(`COMMENT ON DATABASE ${escapeIdentifier(name)} IS ${escapeLiteral(COMPLETE)}`);
    return name;
  } finally {
    await admin.query('SELECT pg_advisory_unlock($1)', [TEMPLATE_LOCK]);
  }
}

async function isComplete(admin: Client, name: string): Promise<boolean> {
  const { rowCount } = await admin.query(
    "SELECT 1 FROM pg_database WHERE datname = $1 AND shobj_description(oid, 'pg_database') = $2",
    [name, COMPLETE],
  );
  return rowCount === 1;
}

async function asAdmin<T>(url: string, fn: (admin: Client) => Promise<T>): Promise<T> {
  const admin = new Client({ connectionString: url });
  await admin.connect();
  try {
    return await fn(admin);
  } finally {
    await admin.end();
  }
}

function withDatabase(url: string, database: string): string {
  const result = new URL(url);
  result.pathname = `/${database}`;
  return result.href;
}

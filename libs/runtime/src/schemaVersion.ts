import type { ServiceName } from '@tuneloop/contracts/services';
import type { ReadyCheck } from './http/app.ts';
import { neededMigrations } from './migrate.ts';
import type { Database } from './pg/database.ts';

/**
 * Whether the database has every migration that this build was made for, asked anew at each call: a build that came up
 * before its migrations is not ready until they have run.
 *
 * Migrations that this build does not know are those of a newer one, and no reason to be unready: a schema stays
 * compatible with the release before it, so that a rollback serves at once.
 */
export async function createSchemaCheck(
  pg: Pick<Database, 'withService'>,
  service: ServiceName,
  directory: URL,
): Promise<() => Promise<ReadyCheck>> {
  const needed = await neededMigrations(directory);
  return async () => {
    const rows = await pg.withService((tx) =>
      tx.query<{ name: string; checksum: string }>('SELECT name, checksum FROM schema_migrations'),
    );
    const applied = new Map(rows.map((row) => [row.name, row.checksum]));
    const missing = needed.filter((file) => !applied.has(file.name)).map((file) => file.name);
    if (missing.length > 0) {
      return {
        ok: false,
        detail: `the ${service} schema lacks what this build needs: ${missing.join(', ')}. Run: tuneloop migrate`,
      };
    }
    const changed = needed.find((file) => applied.get(file.name) !== file.checksum);
    if (changed) return { ok: false, detail: `migration ${service}/${changed.name} differs from the one that ran` };
    const newer = applied.size - needed.length;
    return newer === 0 ? { ok: true } : { ok: true, detail: `${newer} migrations of a newer build have run` };
  };
}

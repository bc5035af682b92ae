import { parseConfig } from '@tuneloop/runtime/config';
import { describeError } from '@tuneloop/runtime/errors';
import { createLog } from '@tuneloop/runtime/log';
import { migrate } from '@tuneloop/runtime/migrate';
import { readSecretFiles } from '@tuneloop/runtime/secretFiles';
import { Command } from 'commander';
import { z } from 'zod';
import { MIGRATION_SETS } from '../start/definitions.ts';

const migrateConfig = z.object({
  /** A login that may create roles and schemas. */
  DATABASE_URL: z.string().min(1),
  TUNELOOP_SECRET: z.string().min(32, 'must be at least 32 characters; make one with: openssl rand -hex 32'),
});

/** `tuneloop migrate`: what a deployment runs once before each new version. */
export function migrateCommand(): Command {
  return new Command('migrate')
    .description(
      'Brings the schemas and logins of all services up to date in DATABASE_URL (a login that may create roles), ' +
        'with TUNELOOP_SECRET. Safe to repeat and to run twice at once.',
    )
    .action(async () => {
      const log = createLog({ bindings: { service: 'migrate' } });
      try {
        const config = parseConfig(migrateConfig, readSecretFiles(process.env));
        await migrate({ adminUrl: config.DATABASE_URL, secret: config.TUNELOOP_SECRET, sets: MIGRATION_SETS, log });
        log.info('the schemas of all services are up to date');
      } catch (error) {
        log.fatal({ reason: describeError(error) }, 'the migration failed; what was applied before stays');
        process.exitCode = 1;
      }
    });
}

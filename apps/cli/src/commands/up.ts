import { fileURLToPath } from 'node:url';
import { type Env, parseConfig } from '@tuneloop/runtime/config';
import { describeError } from '@tuneloop/runtime/errors';
import { stopWithProcess } from '@tuneloop/runtime/lifecycle';
import { createLog, LOG_LEVELS } from '@tuneloop/runtime/log';
import { readSecretFiles } from '@tuneloop/runtime/secretFiles';
import { Command } from 'commander';
import { z } from 'zod';
import { DataFiles } from '../start/dataFiles.ts';
import { startSystem } from '../start/system.ts';

const NANO_FOLDER = fileURLToPath(new URL('../../../../models/nano/base/', import.meta.url));

/** What must be given here and is embedded in `start`. */
const upConfig = z.object({
  DATABASE_URL: z.string().min(1),
  NATS_URL: z.string().min(1),
  TUNELOOP_SECRET: z.string().min(32, 'must be at least 32 characters; make one with: openssl rand -hex 32'),
  NATS_CREDS_FILE: z.string().optional(),
  HOST: z.string().default('0.0.0.0'),
  PORT: z.coerce.number().int().min(1).max(65_535).default(8080),
  LOG_LEVEL: z.enum(LOG_LEVELS).default('info'),
  BASE_MODELS: z
    .string()
    .regex(/^[^=,\s]+=[^=,]+(,[^=,\s]+=[^=,]+)*$/, 'must be name=folder pairs, separated by commas')
    .default(`nano=${NANO_FOLDER}`),
});

interface UpFlags {
  readonly data: string;
  readonly migrate: boolean;
}

/** `tuneloop up`: the whole product as one container, on servers that are managed elsewhere. */
export function upCommand(): Command {
  return new Command('up')
    .description(
      'Runs all services and the model server in one process on the Postgres and NATS of DATABASE_URL and NATS_URL; ' +
        "nothing embedded, no sample project, JSON lines to standard output. HOST and PORT are the gateway's.",
    )
    .option('--data <dir>', 'working files; blobs too, unless BLOB_STORE or BLOB_DIR says otherwise', '.tuneloop')
    .option('--no-migrate', 'expect a schema that `tuneloop migrate` has brought up to date')
    .action(up);
}

async function up(flags: UpFlags): Promise<void> {
  const log = createLog({ bindings: { service: 'up' } });
  try {
    const env: Env = readSecretFiles(process.env);
    const config = parseConfig(upConfig, env);
    const level = createLog({ level: config.LOG_LEVEL });
    const system = await startSystem({
      files: new DataFiles(flags.data),
      port: config.PORT,
      host: config.HOST,
      migrated: !flags.migrate,
      logsToOutput: true,
      processes: false,
      log: level,
      env,
      models: Object.fromEntries(config.BASE_MODELS.split(',').map((pair) => pair.split('='))),
      onStage: (stage) => log.info({ stage }, 'starting'),
    });
    stopWithProcess(() => system.stop(), log);
    log.info({ url: system.gatewayUrl }, 'all services are ready');
  } catch (error) {
    log.fatal({ reason: describeError(error) }, 'cannot start');
    process.exit(1);
  }
}

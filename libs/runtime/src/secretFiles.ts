import { readFileSync } from 'node:fs';
import { ConfigError, type Env } from './config.ts';

/** Variables that may come as `<NAME>_FILE`: the path of a file that holds the value, as container secrets are mounted. */
const SECRET_VARIABLES = [
  'DATABASE_URL',
  'SERVICE_DATABASE_URL',
  'TUNELOOP_SECRET',
  'NATS_ACCOUNT_SEED',
  'S3_ACCESS_KEY_ID',
  'S3_SECRET_ACCESS_KEY',
  'SUPABASE_JWT_SECRET',
  'SUPABASE_SERVICE_ROLE_KEY',
  'UPSTREAM_API_KEY',
] as const;

/**
 * The environment with each `<NAME>_FILE` of a secret replaced by what the file holds, without the last line break.
 * An empty variable counts as not given. (`NATS_CREDS_FILE` is a setting of its own and stays.)
 * @throws ConfigError naming the variables whose file cannot be read, or that are given both ways.
 */
export function readSecretFiles(env: Env): Env {
  const result: Record<string, string | undefined> = { ...env };
  const wrong: { field: string; message: string }[] = [];
  for (const name of SECRET_VARIABLES) {
    const field = `${name}_FILE`;
    const path = env[field];
    if (!path) continue;
    if (env[name]) {
      wrong.push({ field, message: `is given and so is ${name}: keep one of them` });
      continue;
    }
    try {
      result[name] = readFileSync(path, 'utf8').replace(/\r?\n$/, '');
      delete result[field];
    } catch (error) {
      const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown error';
      wrong.push({ field, message: `names a file that cannot be read (${code})` });
    }
  }
  if (wrong.length > 0) throw new ConfigError(wrong);
  return result;
}

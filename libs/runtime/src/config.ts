import type { z } from 'zod';
import { fieldErrors } from './zodIssues.ts';

export type Env = Readonly<Record<string, string | undefined>>;

/** What was wrong with the configuration; the message lists every field and holds no value. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  readonly fields: readonly { readonly field: string; readonly message: string }[];

  constructor(fields: readonly { readonly field: string; readonly message: string }[]) {
    super(`The configuration is not usable:\n${fields.map((f) => `  ${f.field} ${f.message}`).join('\n')}`);
    this.fields = fields;
  }
}

/** Freezes a configuration at every level. */
function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value) && !ArrayBuffer.isView(value)) {
    Object.freeze(value);
    for (const item of Object.values(value)) deepFreeze(item);
  }
  return value;
}

/**
 * Parses environment variables by a zod object into a frozen configuration.
 * An empty string counts as not given, as `.env` files and compose write it. Values are never part of the error.
 * @throws ConfigError naming every wrong variable and the fix.
 */
export function parseConfig<S extends z.ZodType>(schema: S, env: Env): Readonly<z.output<S>> {
  const given = Object.fromEntries(Object.entries(env).filter(([, value]) => value !== undefined && value !== ''));
  const result = schema.safeParse(given);
  if (!result.success) throw new ConfigError(fieldErrors(result.error, given, 'environment'));
  return deepFreeze(result.data);
}

import { expect, it } from 'vitest';
import { z } from 'zod';
import { ConfigError, parseConfig } from './config.ts';

const schema = z.object({
  DATABASE_URL: z.url(),
  PORT: z.coerce.number().int().min(1).max(65_535).default(8080),
  DEBUG: z.stringbool().default(false),
  SECRET: z.string().min(32, 'must be at least 32 characters; make one with: openssl rand -hex 32'),
  MODE: z.enum(['a', 'b']).optional(),
  LIMITS: z.object({ rows: z.number() }).default({ rows: 5 }),
});
const good = { DATABASE_URL: 'postgres://u:p@h/db', SECRET: 'x'.repeat(32) };

it('parses, applies defaults and freezes at every level', () => {
  const config = parseConfig(schema, { ...good, DEBUG: 'true', PORT: '', PATH: '/bin' });
  expect(config).toEqual({ ...good, PORT: 8080, DEBUG: true, LIMITS: { rows: 5 } });
  expect(Object.isFrozen(config) && Object.isFrozen(config.LIMITS)).toBe(true);
});

it('names every wrong variable with the fix, and shows no value', () => {
  const parse = () =>
    parseConfig(schema, { DATABASE_URL: 'hunter2', PORT: '99999', SECRET: 'hunter2', MODE: 'hunter2' });
  expect(parse).toThrow(ConfigError);
  expect(parse).toThrow(/DATABASE_URL must be an absolute URL/);
  expect(parse).toThrow(/PORT must be at most 65535/);
  expect(parse).toThrow(/SECRET must be at least 32 characters; make one with/);
  expect(parse).toThrow(/MODE must be one of "a", "b"/);
  expect(parse).not.toThrow(/hunter2/);
  expect(() => parseConfig(schema, {})).toThrow(/SECRET is required/);
});

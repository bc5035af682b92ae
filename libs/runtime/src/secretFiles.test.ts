import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { ConfigError } from './config.ts';
import { readSecretFiles } from './secretFiles.ts';

function secretFile(text: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'tuneloop-secret-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'secret');
  writeFileSync(path, text);
  return path;
}

it('takes a secret from the file that is named, without its last line break', () => {
  const path = secretFile('hunter2 \n');
  expect(readSecretFiles({ TUNELOOP_SECRET_FILE: path, TUNELOOP_SECRET: '', PORT: '1' })).toEqual({
    TUNELOOP_SECRET: 'hunter2 ',
    PORT: '1',
  });
});

it('leaves alone what is no secret, empty names, and credentials that NATS reads by itself', () => {
  const env = {
    NATS_CREDS_FILE: '/no/such',
    PORT_FILE: '/no/such',
    DATABASE_URL_FILE: '',
    DATABASE_URL: 'postgres://h/d',
  };
  expect(readSecretFiles(env)).toEqual(env);
});

it('names every variable that is wrong, and no value', () => {
  const read = () =>
    readSecretFiles({ TUNELOOP_SECRET: 'hunter2', TUNELOOP_SECRET_FILE: '/x', DATABASE_URL_FILE: '/no/such/file' });
  expect(read).toThrow(ConfigError);
  expect(read).toThrow(/TUNELOOP_SECRET_FILE is given and so is TUNELOOP_SECRET/);
  expect(read).toThrow(/DATABASE_URL_FILE names a file that cannot be read \(ENOENT\)/);
  expect(read).not.toThrow(/hunter2/);
});

import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const SECRET_BYTES = 32;
const PRIVATE = 0o600;

/** Small private files of one data directory. */
export class DataFiles {
  readonly directory: string;
  readonly logs: string;
  readonly blobs: string;

  constructor(directory: string) {
    this.directory = directory;
    this.logs = join(directory, 'logs');
    this.blobs = join(directory, 'blobs');
    mkdirSync(this.logs, { recursive: true });
    mkdirSync(this.blobs, { recursive: true });
  }

  /** The installation's secret: made at the first start, kept after that. */
  secret(): string {
    const stored = this.read('secret');
    if (stored !== null) return stored;
    const made = randomBytes(SECRET_BYTES).toString('hex');
    this.write('secret', made);
    return made;
  }

  read(name: string): string | null {
    const path = join(this.directory, name);
    return existsSync(path) ? readFileSync(path, 'utf8').trim() : null;
  }

  /** Whole or not at all, readable by this user only. */
  write(name: string, text: string): void {
    const path = join(this.directory, name);
    writeFileSync(`${path}.new`, `${text}\n`, { mode: PRIVATE });
    renameSync(`${path}.new`, path);
  }
}

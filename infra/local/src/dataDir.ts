import { resolve } from 'node:path';
import type { Log } from './log.ts';
import { makeTraversable, postgresUser, unreachableDirectory } from './postgresUser.ts';

/** Inside the directory that Tuneloop is started in; ignored by git. */
const USUAL_DATA_DIR = '.tuneloop';

/** For root in a home that only root may enter: Postgres runs as another user and must reach its files. */
const ROOT_DATA_DIR = '/var/lib/tuneloop';

/**
 * The data directory when none was asked for: `.tuneloop` here, or a system directory when this runs as root in a
 * place that Postgres' user cannot reach (a clone under /root). Creates it.
 */
export function defaultDataDir(options: { cwd?: string; log: Log }): string {
  const usual = resolve(options.cwd ?? '.', USUAL_DATA_DIR);
  makeTraversable(usual);
  const blocked = unreachableDirectory(usual, postgresUser(options.log));
  if (blocked === undefined) return usual;
  makeTraversable(ROOT_DATA_DIR);
  options.log.info(
    { blocked, dataDir: ROOT_DATA_DIR },
    'using a data directory that Postgres, which does not run as root, can reach',
  );
  return ROOT_DATA_DIR;
}

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { defaultDataDir } from '@tuneloop/local/dataDir';
import { silentLog } from '@tuneloop/local/log';
import { type Command, Option } from 'commander';
import { webUrl } from './flags.ts';

export interface ConnectionFlags {
  readonly url?: string;
  readonly key?: string;
  readonly data?: string;
}

/** Where the gateway is and with which key: flags, then environment, then what `start` left in the data directory. */
export function connectionOptions(command: Command): Command {
  return command
    .addOption(new Option('--url <url>', 'gateway (default: TUNELOOP_URL, else what `start` wrote)').argParser(webUrl))
    .option('--key <key>', 'API key (default: TUNELOOP_API_KEY, else what `start` wrote)')
    .option('--data <dir>', 'data directory of `start`');
}

/** @throws Error that says how to give what is missing. */
export function resolveConnection(flags: ConnectionFlags): { baseUrl: string; apiKey: string } {
  const directory = flags.data ?? defaultDataDir({ log: silentLog });
  const stored = (name: string): string | undefined => {
    const path = join(directory, name);
    return existsSync(path) ? readFileSync(path, 'utf8').trim() : undefined;
  };
  const baseUrl = flags.url ?? process.env.TUNELOOP_URL ?? stored('url');
  const apiKey = flags.key ?? process.env.TUNELOOP_API_KEY ?? stored('api-key');
  if (baseUrl === undefined)
    throw new Error('No gateway known: give --url, set TUNELOOP_URL, or run `npm start` first.');
  if (!URL.canParse(baseUrl)) throw new Error(`TUNELOOP_URL is no address: ${baseUrl}`);
  if (apiKey === undefined) throw new Error('No API key known: give --key or set TUNELOOP_API_KEY.');
  return { baseUrl, apiKey };
}

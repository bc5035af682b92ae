import { homedir } from 'node:os';
import { join } from 'node:path';
import { EngineError } from '../errors.ts';

const DEFAULT_ENDPOINT = 'https://huggingface.co';
export const DEFAULT_REVISION = 'main';
const TRUE = /^(1|on|yes|true)$/i;

/** Where models come from and where they are kept. What is not given is taken from the environment, as Python's package does. */
export interface HubOptions {
  /** Folder of downloaded models (`HF_HUB_CACHE`, else `HF_HOME`/hub, else ~/.cache/huggingface/hub). */
  readonly cacheDir?: string;
  /** Another server with the same layout (`HF_ENDPOINT`). */
  readonly mirror?: string;
  /** For private and gated models (`HF_TOKEN`). Sent to the hub alone, never to where it redirects. */
  readonly token?: string;
  /** Use what is in the cache and ask nobody (`HF_HUB_OFFLINE`). */
  readonly offline?: boolean;
  /** Branch, tag or commit (default main). */
  readonly revision?: string;
  /** Bytes of a file that are there, as they come. */
  readonly onProgress?: (progress: HubProgress) => void;
  readonly signal?: AbortSignal;
  /** Wait before the first repetition of a request that failed; doubled each time (default 500). */
  readonly retryDelayMs?: number;
}

export interface HubProgress {
  readonly file: string;
  readonly bytes: number;
  /** Absent when the server does not say. */
  readonly totalBytes?: number;
}

export interface HubSettings {
  readonly cacheDir: string;
  /** Without a slash at the end. */
  readonly endpoint: string;
  readonly token: string | undefined;
  readonly offline: boolean;
  readonly revision: string;
  readonly onProgress: (progress: HubProgress) => void;
  readonly signal: AbortSignal | undefined;
  readonly retryDelayMs: number;
}

const DEFAULT_RETRY_DELAY_MS = 500;

/** @throws EngineError `engine.hub.bad_options` for an endpoint that is no http address, or a revision that is no name */
export function hubSettings(options: HubOptions, env: Readonly<Record<string, string | undefined>>): HubSettings {
  const home = env['HF_HOME'] || join(env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'huggingface');
  const endpoint = (options.mirror ?? (env['HF_ENDPOINT'] || DEFAULT_ENDPOINT)).replace(/\/+$/, '');
  const address = URL.canParse(endpoint) ? new URL(endpoint) : undefined;
  if (address?.protocol !== 'http:' && address?.protocol !== 'https:') {
    throw new EngineError('engine.hub.bad_options', `the hub's address ${endpoint} is no http or https address`);
  }
  const revision = options.revision ?? DEFAULT_REVISION;
  if (!/^[\w.][\w./-]*$/.test(revision) || revision.includes('..')) {
    throw new EngineError('engine.hub.bad_options', `revision ${revision} is no branch, tag or commit`);
  }
  return {
    cacheDir: options.cacheDir ?? (env['HF_HUB_CACHE'] || join(home, 'hub')),
    endpoint,
    token: options.token ?? (env['HF_TOKEN'] || undefined),
    offline: options.offline ?? TRUE.test(env['HF_HUB_OFFLINE'] ?? ''),
    revision,
    onProgress: options.onProgress ?? ((): void => undefined),
    signal: options.signal,
    retryDelayMs: options.retryDelayMs ?? DEFAULT_RETRY_DELAY_MS,
  };
}

import { lookup as dnsLookup, type LookupAddress } from 'node:dns';
import { isIP, type LookupFunction } from 'node:net';
import ipaddr from 'ipaddr.js';
import { Agent, type Dispatcher, errors, request } from 'undici';
import { AppError } from '../errors.ts';

const MAX_REDIRECTS = 5;
const MAX_URL_CHARS = 4_000;
const CONNECT_TIMEOUT_MS = 5_000;
const KEEP_ALIVE_MS = 1_000;
const MAX_CONNECTIONS_PER_HOST = 4;
const USER_AGENT = 'Tuneloop/0.1';
const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);
/** Statuses after which the same request may succeed later. */
const PASSING: ReadonlySet<number> = new Set([408, 425, 429]);

/** The global unicast space that has been given out (RFC 4291, IANA): all else is local, special or nobody's. */
const GLOBAL_V6: [ipaddr.IPv6, number] = ipaddr.IPv6.parseCIDR('2000::/3');

/**
 * Whether an IP address is one of the public internet. Mapped IPv4 is judged as what it maps; addresses that tunnel or
 * translate to IPv4 (6to4, Teredo, NAT64) are not public, since they lead to any IPv4 address.
 */
export function isPublicAddress(address: string): boolean {
  // Strict: ipaddr.js also reads the short forms of IPv4.
  if (isIP(address) === 0) return false;
  const parsed = ipaddr.process(address);
  if (parsed.range() !== 'unicast') return false;
  return parsed instanceof ipaddr.IPv4 || parsed.match(GLOBAL_V6);
}

export interface SafeFetchOptions {
  /** `name` or `name:port`, lower case: fetched whatever its address is. For tests and for one's own file servers. */
  readonly allowHosts?: readonly string[];
  /** Replaces DNS in tests. */
  readonly lookup?: (hostname: string) => Promise<readonly LookupAddress[]>;
}

export interface FetchLimits {
  readonly maxBytes: number;
  /** For everything together: every redirect and the whole body. */
  readonly timeoutMs: number;
  readonly accept?: string;
  readonly signal?: AbortSignal;
}

export interface FetchedFile {
  readonly bytes: Buffer;
  /** As the server said it; not to be believed. */
  readonly contentType: string | null;
  /** Where it was in the end. */
  readonly url: string;
}

/**
 * Fetches what strangers name, without being led into one's own network: http and https only; the address is checked
 * where the connection is made, after DNS, so that no second look-up can differ from the first; IP literals, which are
 * never looked up, are checked before; each redirect is a new URL and checked again; size and time are capped.
 */
export class SafeFetcher {
  readonly #allowHosts: ReadonlySet<string>;
  readonly #guarded: Agent;
  readonly #trusted: Agent;

  constructor(options: SafeFetchOptions = {}) {
    this.#allowHosts = new Set(options.allowHosts ?? []);
    const common = { connections: MAX_CONNECTIONS_PER_HOST, keepAliveTimeout: KEEP_ALIVE_MS };
    this.#guarded = new Agent({
      ...common,
      connect: { timeout: CONNECT_TIMEOUT_MS, lookup: guardedLookup(options.lookup ?? systemLookup) },
    });
    this.#trusted = new Agent({ ...common, connect: { timeout: CONNECT_TIMEOUT_MS } });
  }

  /**
   * @throws AppError final (`retry: false`) for a URL that is refused, too large, or answered 4xx; passing for time
   *   limits, DNS, connections and 5xx. All name the field `url`.
   */
  async fetch(url: string, limits: FetchLimits): Promise<FetchedFile> {
    const timeout = AbortSignal.timeout(limits.timeoutMs);
    const signal = limits.signal ? AbortSignal.any([limits.signal, timeout]) : timeout;
    try {
      return await this.#follow(url, limits, signal);
    } catch (error) {
      throw timeout.aborted ? timedOut(limits.timeoutMs, error) : fetchError(error);
    }
  }

  async close(): Promise<void> {
    await Promise.all([this.#guarded.destroy(), this.#trusted.destroy()]);
  }

  async #follow(first: string, limits: FetchLimits, signal: AbortSignal): Promise<FetchedFile> {
    let url = first;
    for (let redirects = 0; redirects <= MAX_REDIRECTS; redirects++) {
      const target = checkUrl(url);
      const trusted = this.#allowHosts.has(target.host) || this.#allowHosts.has(target.hostname);
      if (!trusted) checkLiteral(target);
      const answer = await request(target, {
        method: 'GET',
        dispatcher: trusted ? this.#trusted : this.#guarded,
        headers: { 'user-agent': USER_AGENT, accept: limits.accept ?? '*/*', 'accept-encoding': 'identity' },
        signal,
        // The signal is the limit: these only keep undici's own from coming first.
        headersTimeout: limits.timeoutMs,
        bodyTimeout: limits.timeoutMs,
      });
      const location = answer.headers.location;
      if (REDIRECTS.has(answer.statusCode) && typeof location === 'string') {
        discard(answer);
        url = new URL(location, target).href;
        continue;
      }
      return { bytes: await readBody(answer, limits.maxBytes), contentType: contentTypeOf(answer), url: target.href };
    }
    throw refused('fetch.too_many_redirects', `url leads through more than ${MAX_REDIRECTS} redirects`);
  }
}

function checkUrl(text: string): URL {
  const url = text.length <= MAX_URL_CHARS && URL.canParse(text) ? new URL(text) : undefined;
  if (!url || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
    throw refused('fetch.url_refused', 'url must be an http or https URL');
  }
  if (url.username !== '' || url.password !== '') {
    throw refused('fetch.url_refused', 'url must not hold a user name or password');
  }
  return url;
}

/** `URL` has normalised odd spellings of IPv4 (octal, hexadecimal, one number) to the dotted form already. */
function checkLiteral(url: URL): void {
  const host = url.hostname.replace(/^\[|\]$/g, '');
  if (isIP(host) !== 0 && !isPublicAddress(host)) throw addressRefused(url.hostname);
}

async function systemLookup(hostname: string): Promise<readonly LookupAddress[]> {
  return new Promise((resolve, reject) => {
    dnsLookup(hostname, { all: true }, (error, addresses) => (error ? reject(error) : resolve(addresses)));
  });
}

type Lookup = NonNullable<SafeFetchOptions['lookup']>;

function guardedLookup(lookup: Lookup): LookupFunction {
  return (hostname, options, callback) => {
    const answer = async (): Promise<void> => {
      const found = await publicAddresses(lookup, hostname, options.family);
      if (found instanceof Error) callback(found, '');
      else if (options.all === true) callback(null, [...found]);
      else callback(null, found[0].address, found[0].family);
    };
    void answer();
  };
}

/** One address that is not public condemns the name: a name that has both is not one to follow. */
async function publicAddresses(
  lookup: Lookup,
  hostname: string,
  family: number | string | undefined,
): Promise<[LookupAddress, ...LookupAddress[]] | Error> {
  try {
    const addresses = await lookup(hostname);
    if (addresses.some((entry) => !isPublicAddress(entry.address))) return addressRefused(hostname);
    const [first, ...others] =
      family === 4 || family === 6 ? addresses.filter((entry) => entry.family === family) : addresses;
    return first ? [first, ...others] : unreachable(new Error(`${hostname} has no address`));
  } catch (error) {
    return unreachable(error);
  }
}

function discard(answer: Dispatcher.ResponseData): void {
  // The connection is given up instead of reading a body that may be endless.
  answer.body.on('error', () => undefined);
  answer.body.destroy();
}

async function readBody(answer: Dispatcher.ResponseData, maxBytes: number): Promise<Buffer> {
  const { statusCode } = answer;
  const declared = Number(answer.headers['content-length'] ?? 0);
  const encoding = answer.headers['content-encoding'];
  let problem: AppError | undefined;
  if (statusCode < 200 || statusCode > 299) problem = badStatus(statusCode);
  else if (declared > maxBytes) problem = tooLarge(maxBytes);
  else if (encoding !== undefined && encoding !== 'identity') {
    // What unpacks to more than it weighs is not unpacked.
    problem = refused('fetch.encoding_refused', 'url answers with a content encoding that was not asked for');
  }
  if (problem) {
    discard(answer);
    throw problem;
  }
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of answer.body) {
    const bytes = Buffer.from(chunk as Uint8Array);
    size += bytes.length;
    if (size > maxBytes) {
      discard(answer);
      throw tooLarge(maxBytes);
    }
    chunks.push(bytes);
  }
  return Buffer.concat(chunks, size);
}

function contentTypeOf(answer: Dispatcher.ResponseData): string | null {
  const value = answer.headers['content-type'];
  return (typeof value === 'string' ? value.split(';', 1)[0]?.trim().toLowerCase() : undefined) ?? null;
}

function refused(code: string, message: string, status = 400): AppError {
  return new AppError({ code, status, message, field: 'url', retry: false });
}

function addressRefused(host: string): AppError {
  return refused('fetch.address_refused', `url leads to ${host.slice(0, 200)}, which is not a public internet address`);
}

function tooLarge(maxBytes: number): AppError {
  return refused('fetch.too_large', `url holds more than ${maxBytes} bytes`, 413);
}

function badStatus(status: number): AppError {
  const retry = status >= 500 || PASSING.has(status);
  return new AppError({
    code: 'fetch.status',
    status: retry ? 502 : 400,
    message: `url answered with status ${status}`,
    field: 'url',
    retry,
  });
}

function timedOut(timeoutMs: number, cause: unknown): AppError {
  const message = `url did not answer in full within ${timeoutMs / 1000} seconds`;
  return new AppError({ code: 'fetch.timeout', status: 504, message, field: 'url', retry: true, cause });
}

function unreachable(cause: unknown): AppError {
  const message = 'url cannot be reached: the name is unknown or the connection fails';
  return new AppError({ code: 'fetch.unreachable', status: 502, message, field: 'url', retry: true, cause });
}

/** A refusal made during the connection comes back wrapped by the client. */
function fetchError(error: unknown): AppError {
  for (let at: unknown = error; at instanceof Error; at = at.cause) if (at instanceof AppError) return at;
  if (error instanceof errors.InvalidArgumentError) return refused('fetch.url_refused', 'url cannot be fetched');
  return unreachable(error);
}

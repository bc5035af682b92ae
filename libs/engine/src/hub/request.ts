/** Requests to a model hub: redirects, refusals in words, repetition of what may pass. */
import { setTimeout as wait } from 'node:timers/promises';
import { EngineError } from '../errors.ts';
import type { HubSettings } from './settings.ts';

const MAX_REDIRECTS = 5;
const MAX_ATTEMPTS = 5;
/** Until a server has answered, and between two pieces of a file. */
export const STALL_MS = 60_000;

const REDIRECTS: readonly number[] = [301, 302, 303, 307, 308];
const PASSING: readonly number[] = [408, 425, 429, 500, 502, 503, 504];

/** A failure that may pass: of the connection, or one of {@link PASSING}. */
export class PassingFailure extends Error {}

/** An address as a message may show it: signed addresses carry their signature behind the question mark. */
function shownUrl(url: URL): string {
  return `${url.origin}${url.pathname}`;
}

function refusal(url: URL, response: Response, settings: HubSettings, what: string): EngineError {
  const code = response.headers.get('x-error-code');
  const { status } = response;
  if (code === 'GatedRepo' || status === 403) {
    return new EngineError(
      'engine.hub.forbidden',
      `${what}: access is restricted (${status}). Accept its terms on ${settings.endpoint}, and give a token of that account in HF_TOKEN`,
    );
  }
  if (code === 'RevisionNotFound') {
    return new EngineError('engine.hub.not_found', `${what}: there is no revision ${settings.revision}`);
  }
  if (code === 'EntryNotFound' || (status === 404 && code === null)) {
    return new EngineError('engine.hub.not_found', `${what}: not found at ${shownUrl(url)}`);
  }
  if (status === 401 || status === 404) {
    const how =
      settings.token === undefined ? 'if it is private, give a token in HF_TOKEN' : 'the token was not accepted for it';
    const kind = status === 401 ? 'engine.hub.unauthorized' : 'engine.hub.not_found';
    return new EngineError(kind, `${what}: there is no such model for this caller (${status}); ${how}`);
  }
  return new EngineError('engine.hub.failed', `${what}: ${shownUrl(url)} answered ${status}`);
}

/** Aborts when nothing has moved for a while, or when the caller does. */
export class Watchdog {
  readonly #controller = new AbortController();
  readonly signal: AbortSignal;
  #timer: NodeJS.Timeout | undefined;

  constructor(outer: AbortSignal | undefined) {
    this.signal = outer === undefined ? this.#controller.signal : AbortSignal.any([outer, this.#controller.signal]);
    this.moved();
  }

  moved(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#controller.abort(new PassingFailure('no answer')), STALL_MS);
    this.#timer.unref();
  }

  stop(): void {
    clearTimeout(this.#timer);
  }
}

export interface HubRequest {
  readonly method: 'GET' | 'HEAD';
  readonly url: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** HEAD stops at a redirect to another host: what it tells of the file stands in that answer. */
  readonly followAway: boolean;
  /** What messages say was asked for. */
  readonly what: string;
}

/**
 * One request with its redirects. The token goes to the hub's own origin only.
 * @throws EngineError `engine.hub.*` for a final refusal, PassingFailure for one that may pass
 */
export async function send(request: HubRequest, settings: HubSettings, watchdog: Watchdog): Promise<Response> {
  const home = new URL(settings.endpoint).origin;
  let url = new URL(request.url);
  for (let redirects = 0; redirects <= MAX_REDIRECTS; redirects++) {
    const headers = new Headers(request.headers);
    if (settings.token !== undefined && url.origin === home) headers.set('authorization', `Bearer ${settings.token}`);
    let response: Response;
    try {
      response = await fetch(url, { method: request.method, headers, redirect: 'manual', signal: watchdog.signal });
    } catch (cause) {
      settings.signal?.throwIfAborted();
      throw new PassingFailure(`${request.what}: cannot reach ${shownUrl(url)}`, { cause });
    }
    watchdog.moved();
    const location = response.headers.get('location');
    if (REDIRECTS.includes(response.status) && location !== null) {
      const next = new URL(location, url);
      if (next.origin !== home && !request.followAway) return response;
      if (url.protocol === 'https:' && next.protocol !== 'https:') {
        throw new EngineError(
          'engine.hub.failed',
          `${request.what}: ${shownUrl(url)} redirects to an address without TLS`,
        );
      }
      await response.body?.cancel();
      url = next;
      continue;
    }
    if (PASSING.includes(response.status)) {
      await response.body?.cancel();
      throw new PassingFailure(`${request.what}: ${shownUrl(url)} answered ${response.status}`);
    }
    if (!response.ok && response.status !== 416) {
      await response.body?.cancel();
      throw refusal(url, response, settings, request.what);
    }
    return response;
  }
  throw new EngineError('engine.hub.failed', `${request.what}: more than ${MAX_REDIRECTS} redirects`);
}

/**
 * Repeats what failed in passing, with growing waits.
 * @throws EngineError `engine.hub.unreachable` when it keeps failing
 */
export async function persist<T>(settings: HubSettings, attempt: (watchdog: Watchdog) => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    const watchdog = new Watchdog(settings.signal);
    try {
      return await attempt(watchdog);
    } catch (error) {
      settings.signal?.throwIfAborted();
      if (!(error instanceof PassingFailure)) throw error;
      if (tries === MAX_ATTEMPTS) throw new EngineError('engine.hub.unreachable', error.message, { cause: error });
    } finally {
      watchdog.stop();
    }
    await wait(settings.retryDelayMs * 2 ** (tries - 1), undefined, { signal: settings.signal });
  }
}

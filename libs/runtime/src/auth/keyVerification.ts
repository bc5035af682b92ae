import { createHash } from 'node:crypto';
import type { ServiceName } from '@tuneloop/contracts/services';
import { verifyKey } from '@tuneloop/contracts/gateway/internal';
import { request } from 'undici';
import type { z } from 'zod';
import { BoundedCache } from '../boundedCache.ts';
import { AppError } from '../errors.ts';
import { NO_PROJECT, unauthorized } from './auth.ts';
import type { Auth } from './auth.ts';
import { apiKeyId } from './apiKeys.ts';
import type { SigningKey } from './keys.ts';
import { signServiceToken } from './tokens.ts';

export type VerifiedKey = z.output<typeof verifyKey.response>;

/** Looks a key up. The gateway has its own table; every other service asks the gateway. */
export type KeyLookup = (key: string) => Promise<VerifiedKey>;

/** A revoked key stops working everywhere within this. */
const VALID_TTL_MS = 10_000;
const INVALID_TTL_MS = 5_000;
const MAX_CACHED_KEYS = 5_000;
const MAX_LOOKUPS_IN_FLIGHT = 200;
const LOOKUP_TIMEOUT_MS = 5_000;
const MAX_ANSWER_BYTES = 64 * 1024;

/** A lookup over HTTP at the gateway. */
export function gatewayKeyLookup(gatewayUrl: string, key: SigningKey, service: ServiceName | 'serve'): KeyLookup {
  const url = new URL(verifyKey.path, gatewayUrl);
  return async (apiKey) => {
    const token = await signServiceToken(key, { service, projectId: NO_PROJECT });
    const answer = await request(url, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      body: JSON.stringify({ key: apiKey }),
      headersTimeout: LOOKUP_TIMEOUT_MS,
      bodyTimeout: LOOKUP_TIMEOUT_MS,
      signal: AbortSignal.timeout(LOOKUP_TIMEOUT_MS),
    });
    if (Number(answer.headers['content-length'] ?? 0) > MAX_ANSWER_BYTES) {
      answer.body.destroy();
      throw new Error('the gateway answered too much');
    }
    const body: unknown = await answer.body.json();
    if (answer.statusCode !== 200) throw new Error(`the gateway answered ${answer.statusCode}`);
    return verifyKey.response.parse(body);
  };
}

/**
 * API keys to callers, with a short cache in front of the lookup. The cache holds hashes, never keys; lookups of the
 * same key that overlap are one.
 */
export class ApiKeyVerifier {
  readonly #lookup: KeyLookup;
  readonly #cache: BoundedCache<VerifiedKey>;
  readonly #inFlight = new Map<string, Promise<VerifiedKey>>();
  readonly #now: () => number;

  constructor(lookup: KeyLookup, now: () => number = Date.now) {
    this.#lookup = lookup;
    this.#now = now;
    this.#cache = new BoundedCache(MAX_CACHED_KEYS, now);
  }

  /** @throws AppError 401 for a key that does not hold, 503 when the gateway does not answer. */
  async verify(key: string): Promise<Auth> {
    if (apiKeyId(key) === undefined) {
      throw unauthorized('auth.key_invalid', 'The API key does not have the form tl_<id>_<secret>.');
    }
    const digest = createHash('sha256').update(key).digest('base64');
    const verified = this.#cache.get(digest) ?? (await this.#ask(digest, key));
    if (!verified.valid || (verified.expires_at !== null && Date.parse(verified.expires_at) <= this.#now())) {
      throw unauthorized('auth.key_invalid', 'The API key is unknown, revoked or expired.');
    }
    return {
      projectId: verified.project_id,
      subject: verified.key_id,
      actor: `key:${verified.key_id}`,
      scopes: verified.scopes.filter((scope) => scope !== 'service'),
      role: verified.role,
      kind: 'api_key',
    };
  }

  async #ask(digest: string, key: string): Promise<VerifiedKey> {
    const running = this.#inFlight.get(digest);
    if (running) return running;
    if (this.#inFlight.size >= MAX_LOOKUPS_IN_FLIGHT) throw unavailable(new Error('too many key lookups at once'));
    const asked = this.#lookup(key)
      .then((verified) => {
        this.#cache.set(digest, verified, verified.valid ? VALID_TTL_MS : INVALID_TTL_MS);
        return verified;
      })
      .catch((error: unknown) => {
        throw error instanceof AppError ? error : unavailable(error);
      })
      .finally(() => this.#inFlight.delete(digest));
    this.#inFlight.set(digest, asked);
    return asked;
  }
}

function unavailable(cause: unknown): AppError {
  return new AppError({
    code: 'auth.unavailable',
    status: 503,
    message: 'The API key could not be checked. Try again in a moment.',
    retry: true,
    cause,
  });
}

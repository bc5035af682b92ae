import type { ServiceName } from '@tuneloop/contracts/services';
import { createLocalJWKSet, createRemoteJWKSet, decodeJwt } from 'jose';
import type { JWTPayload, JWTVerifyGetKey } from 'jose';
import { unauthorized } from './auth.ts';
import type { Auth, Authenticator, CredentialHeaders } from './auth.ts';
import { BoundedCache } from '../boundedCache.ts';
import { buildJwks } from './jwks.ts';
import { deriveSigningKey } from './keys.ts';
import { ApiKeyVerifier, gatewayKeyLookup } from './keyVerification.ts';
import type { KeyLookup } from './keyVerification.ts';
import { fetchKey, supabaseIssuer, supabaseVerifier } from './supabase.ts';
import type { SupabaseOptions } from './supabase.ts';
import { ownIssuer, verifyToken } from './tokens.ts';

export interface AuthenticatorOptions {
  readonly service: ServiceName | 'serve';
  /** The secret that gateway and service keys are derived from. Verifies without asking anyone. */
  readonly secret?: string;
  /** The gateway's key document, for a service that does not hold the gateway's secret. */
  readonly jwksUrl?: string;
  readonly supabase?: SupabaseOptions;
  /** Asked for API keys; needs `secret` to sign the question. */
  readonly gatewayUrl?: string;
  /** The gateway's own lookup, instead of `gatewayUrl`. */
  readonly keyLookup?: KeyLookup;
  /** Clock for expiry. */
  readonly now?: () => Date;
}

const MAX_CREDENTIAL_CHARS = 8_192;
const JWKS_TIMEOUT_MS = 5_000;
const MAX_VERIFIED_TOKENS = 5_000;
/**
 * A token of ours that held is not verified again for so long, nor past its end. Tokens are not revoked one by one:
 * who loses a right loses it when the gateway makes the next token; a signing key that is withdrawn, within this.
 */
const VERIFIED_TTL_MS = 60_000;

/**
 * Judges the credentials of one request. `Authorization: Bearer` goes first and must hold when it is there;
 * the `apikey` header alone is enough. A bearer value is judged by what it claims to be: our own token by its issuer,
 * the configured Supabase project's token, or an API key.
 */
export function createAuthenticator(options: AuthenticatorOptions): Authenticator {
  const now = options.now ?? (() => new Date());
  const getKey = ownKeys(options);
  const lookup =
    options.keyLookup ??
    (options.gatewayUrl !== undefined && options.secret !== undefined
      ? gatewayKeyLookup(options.gatewayUrl, deriveSigningKey(options.secret, 'service'), options.service)
      : undefined);
  const apiKeys = lookup ? new ApiKeyVerifier(lookup, () => now().getTime()) : undefined;
  const supabase = options.supabase ? supabaseVerifier(options.supabase) : undefined;
  const supabaseIss = options.supabase ? supabaseIssuer(options.supabase.url) : undefined;

  const verified = new BoundedCache<Auth>(MAX_VERIFIED_TOKENS, () => now().getTime());

  async function verifyOwn(token: string, issuer: string, getOwnKey: JWTVerifyGetKey, exp: number): Promise<Auth> {
    const auth = Object.freeze(await verifyToken(token, issuer, getOwnKey, now()));
    verified.set(token, auth, Math.min(VERIFIED_TTL_MS, exp * 1000 - now().getTime()));
    return auth;
  }

  async function judge(credential: string): Promise<Auth> {
    if (credential.startsWith('tl_')) {
      if (!apiKeys)
        throw unauthorized('auth.keys_not_accepted', 'API keys are not accepted here: go through the gateway.');
      return apiKeys.verify(credential);
    }
    const known = verified.get(credential);
    if (known) return known;
    const payload = peek(credential);
    const issuer = ownIssuer(payload);
    if (issuer !== undefined && getKey) return verifyOwn(credential, issuer, getKey, payload.exp ?? 0);
    if (supabase && payload.iss === supabaseIss) return supabase(credential, now());
    throw unauthorized('auth.token_invalid', 'The token comes from an issuer that is not accepted here.');
  }

  return {
    async authenticate(headers) {
      return judge(credentialOf(headers));
    },
  };
}

function ownKeys(options: AuthenticatorOptions): JWTVerifyGetKey | undefined {
  if (options.secret !== undefined) {
    const keys = [deriveSigningKey(options.secret, 'gateway'), deriveSigningKey(options.secret, 'service')];
    return createLocalJWKSet({ keys: [...buildJwks(keys).keys] });
  }
  if (options.jwksUrl === undefined) return undefined;
  const remote = createRemoteJWKSet(new URL(options.jwksUrl), { timeoutDuration: JWKS_TIMEOUT_MS });
  return (header, token) => fetchKey(remote, header, token);
}

/** What the token says of itself; only ever used to choose who verifies it. */
function peek(token: string): JWTPayload {
  try {
    return decodeJwt(token);
  } catch (error) {
    throw unauthorized('auth.token_invalid', 'The bearer value is neither a token nor an API key.', error);
  }
}

function credentialOf(headers: CredentialHeaders): string {
  const { authorization, apikey } = headers;
  if (authorization !== undefined) {
    const match = /^Bearer +(\S+) *$/i.exec(authorization.slice(0, MAX_CREDENTIAL_CHARS + 1));
    const value = match?.[1];
    if (value === undefined || authorization.length > MAX_CREDENTIAL_CHARS) {
      throw unauthorized('auth.header_invalid', 'The Authorization header must read: Bearer <API key or token>.');
    }
    return value;
  }
  if (typeof apikey === 'string' && apikey !== '' && apikey.length <= MAX_CREDENTIAL_CHARS) return apikey;
  throw unauthorized('auth.missing', 'Credentials are needed: send Authorization: Bearer <API key or token>.');
}

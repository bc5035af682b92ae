import { createRemoteJWKSet, jwtVerify } from 'jose';
import type { JWTPayload, JWTVerifyGetKey } from 'jose';
import { z } from 'zod';
import { AppError } from '../errors.ts';
import { knownScopes, scopesOfRole, unauthorized } from './auth.ts';
import type { Auth } from './auth.ts';
import { tokenError } from './tokens.ts';

export interface SupabaseOptions {
  /** The project's URL; tokens come from `<url>/auth/v1`. */
  readonly url: string;
  /** Legacy HS256 secret. With it only HS256 tokens hold, without it only asymmetric ones. */
  readonly jwtSecret?: string;
  /** Key document instead of the secret; the project's own unless given. */
  readonly jwksUrl?: string;
  /** Claim that names the Tuneloop project; default `app_metadata.project_id`. Never one the user may edit. */
  readonly projectClaim?: string;
  /** Claim that names the role; default `app_metadata.role`. */
  readonly roleClaim?: string;
}

const USER_AUDIENCE = 'authenticated';
const CLOCK_TOLERANCE_SECONDS = 5;
const JWKS_TIMEOUT_MS = 5_000;
const ASYMMETRIC = ['ES256', 'RS256', 'EdDSA'];

function claim(payload: JWTPayload, path: string): unknown {
  let value: unknown = payload;
  for (const part of path.split('.')) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, part)) return undefined;
    value = (value as Record<string, unknown>)[part];
  }
  return value;
}

/** Whose tokens these are, so that a bearer token can be sent to the right verifier. */
export function supabaseIssuer(url: string): string {
  return `${url.replace(/\/+$/, '')}/auth/v1`;
}

/**
 * Verifier of a Supabase project's user tokens.
 * The anon and service-role keys are JWTs as well but have no `authenticated` audience: they are refused.
 */
export function supabaseVerifier(options: SupabaseOptions): (token: string, now?: Date) => Promise<Auth> {
  const projectClaim = options.projectClaim ?? 'app_metadata.project_id';
  const roleClaim = options.roleClaim ?? 'app_metadata.role';
  for (const path of [projectClaim, roleClaim]) {
    if (path === 'user_metadata' || path.startsWith('user_metadata.')) {
      throw new Error(`${path} can be edited by the user; use a claim under app_metadata`);
    }
  }
  if (options.jwtSecret !== undefined && options.jwksUrl !== undefined) {
    throw new Error('give one of jwtSecret and jwksUrl for Supabase tokens, not both');
  }
  const issuer = supabaseIssuer(options.url);
  const jwksUrl = options.jwksUrl ?? `${issuer}/.well-known/jwks.json`;
  const remote = createRemoteJWKSet(new URL(jwksUrl), { timeoutDuration: JWKS_TIMEOUT_MS });
  const secret = options.jwtSecret === undefined ? undefined : new TextEncoder().encode(options.jwtSecret);
  const getKey: JWTVerifyGetKey = async (header, token) => secret ?? fetchKey(remote, header, token);
  return async (token, now) => {
    try {
      const { payload } = await jwtVerify(token, getKey, {
        algorithms: secret ? ['HS256'] : ASYMMETRIC,
        issuer,
        audience: USER_AUDIENCE,
        clockTolerance: CLOCK_TOLERANCE_SECONDS,
        requiredClaims: ['exp', 'sub'],
        ...(now ? { currentDate: now } : {}),
      });
      return toAuth(payload, projectClaim, roleClaim);
    } catch (error) {
      throw tokenError(error);
    }
  };
}

function toAuth(payload: JWTPayload, projectClaim: string, roleClaim: string): Auth {
  const project = z.uuid().safeParse(claim(payload, projectClaim));
  if (!project.success) {
    throw unauthorized('auth.project_missing', `The token names no project in its claim ${projectClaim}.`);
  }
  const role = claim(payload, roleClaim);
  const roleName = typeof role === 'string' ? role : 'viewer';
  const subject = payload.sub ?? '';
  return {
    projectId: project.data,
    subject,
    actor: `user:${subject}`,
    scopes: knownScopes([...scopesOfRole(roleName)]),
    role: roleName,
    kind: 'user',
  };
}

/** Fetches a JWKS key; a key set that does not answer is no judgement of the token: 503. */
export async function fetchKey(
  remote: JWTVerifyGetKey,
  ...args: Parameters<JWTVerifyGetKey>
): Promise<Awaited<ReturnType<JWTVerifyGetKey>>> {
  try {
    return await remote(...args);
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : '';
    if (
      code === 'ERR_JWKS_NO_MATCHING_KEY' ||
      code === 'ERR_JWKS_MULTIPLE_MATCHING_KEYS' ||
      code === 'ERR_JOSE_NOT_SUPPORTED'
    )
      throw error;
    throw new AppError({
      code: 'auth.unavailable',
      status: 503,
      message: 'The keys that tokens are checked with could not be fetched. Try again in a moment.',
      retry: true,
      cause: error,
    });
  }
}

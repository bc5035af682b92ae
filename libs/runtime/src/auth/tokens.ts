import type { ServiceName } from '@tuneloop/contracts/services';
import { decodeProtectedHeader, jwtVerify, SignJWT } from 'jose';
import type { JWTPayload, JWTVerifyGetKey } from 'jose';
import { z } from 'zod';
import { newId } from '../ids.ts';
import { knownScopes, unauthorized } from './auth.ts';
import type { Auth } from './auth.ts';
import type { KeyLabel, SigningKey } from './keys.ts';

export const TOKEN_AUDIENCE = 'tuneloop';
export const GATEWAY_ISSUER = 'tuneloop-gateway';
export const SERVICE_ISSUER = 'tuneloop-service';

/** No token of ours lives longer, so that a revoked key or role is gone within it. */
export const MAX_TOKEN_SECONDS = 300;
const CLOCK_TOLERANCE_SECONDS = 5;

const LABEL_OF_ISSUER: Readonly<Record<string, KeyLabel>> = {
  [GATEWAY_ISSUER]: 'gateway',
  [SERVICE_ISSUER]: 'service',
};

const claims = z.object({
  sub: z.string().min(1).max(200),
  project: z.uuid(),
  actor: z.string().min(1).max(300),
  scopes: z.array(z.string().max(50)).max(50),
  role: z.string().max(100).default(''),
  kind: z.enum(['user', 'api_key', 'service']),
});

export interface SignOptions {
  readonly ttlSeconds?: number;
  readonly now?: Date;
}

async function sign(key: SigningKey, issuer: string, auth: Auth, options: SignOptions): Promise<string> {
  const ttl = options.ttlSeconds ?? MAX_TOKEN_SECONDS;
  if (!(ttl > 0 && ttl <= MAX_TOKEN_SECONDS)) throw new RangeError(`ttlSeconds must be 1 to ${MAX_TOKEN_SECONDS}`);
  if (key.label !== LABEL_OF_ISSUER[issuer]) throw new Error(`the ${key.label} key does not sign for ${issuer}`);
  const issuedAt = Math.floor((options.now ?? new Date()).getTime() / 1000);
  return new SignJWT({
    project: auth.projectId,
    actor: auth.actor,
    scopes: [...auth.scopes],
    role: auth.role,
    kind: auth.kind,
  })
    .setProtectedHeader({ alg: 'EdDSA', typ: 'JWT', kid: key.kid })
    .setIssuer(issuer)
    .setAudience(TOKEN_AUDIENCE)
    .setSubject(auth.subject)
    .setJti(newId())
    .setIssuedAt(issuedAt)
    .setExpirationTime(issuedAt + ttl)
    .sign(key.privateKey);
}

/** What the gateway hands on after it has checked a caller: the caller's identity, for one project, for minutes. */
export async function signGatewayToken(key: SigningKey, auth: Auth, options: SignOptions = {}): Promise<string> {
  if (auth.kind === 'service' || auth.kind === 'anonymous')
    throw new Error(`no gateway token for ${auth.kind} callers`);
  return sign(key, GATEWAY_ISSUER, { ...auth, scopes: auth.scopes.filter((s) => s !== 'service') }, options);
}

/** What one service shows another when it acts for a project. */
export async function signServiceToken(
  key: SigningKey,
  caller: { readonly service: ServiceName | 'serve' | 'cli'; readonly projectId: string; readonly actor?: string },
  options: SignOptions = {},
): Promise<string> {
  const auth: Auth = {
    projectId: caller.projectId,
    subject: caller.service,
    actor: caller.actor ?? `service:${caller.service}`,
    scopes: ['service'],
    role: '',
    kind: 'service',
  };
  return sign(key, SERVICE_ISSUER, auth, options);
}

/** Which of our issuers a payload claims, undefined for anyone else's. */
export function ownIssuer(payload: JWTPayload): string | undefined {
  return payload.iss !== undefined && Object.hasOwn(LABEL_OF_ISSUER, payload.iss) ? payload.iss : undefined;
}

/**
 * Verifies a gateway or service token: EdDSA only, a key of the issuer's own label, issuer, audience, expiry, age.
 * @throws AppError 401 `auth.token_invalid` or `auth.token_expired`.
 */
export async function verifyToken(token: string, issuer: string, getKey: JWTVerifyGetKey, now?: Date): Promise<Auth> {
  const label = LABEL_OF_ISSUER[issuer];
  try {
    const { kid } = decodeProtectedHeader(token);
    if (label === undefined || kid === undefined || !kid.startsWith(`${label}-`)) {
      throw unauthorized('auth.token_invalid', 'The token is not signed by its issuer.');
    }
    const { payload } = await jwtVerify(token, getKey, {
      algorithms: ['EdDSA'],
      issuer,
      audience: TOKEN_AUDIENCE,
      maxTokenAge: MAX_TOKEN_SECONDS,
      clockTolerance: CLOCK_TOLERANCE_SECONDS,
      requiredClaims: ['exp', 'iat', 'sub'],
      ...(now ? { currentDate: now } : {}),
    });
    const parsed = claims.parse(payload);
    if ((parsed.kind === 'service') !== (issuer === SERVICE_ISSUER)) {
      throw unauthorized('auth.token_invalid', 'The token is of another kind than its issuer makes.');
    }
    const scopes = knownScopes(parsed.scopes);
    return {
      projectId: parsed.project,
      subject: parsed.sub,
      actor: parsed.actor,
      scopes: issuer === SERVICE_ISSUER ? scopes : scopes.filter((scope) => scope !== 'service'),
      role: parsed.role,
      kind: parsed.kind,
    };
  } catch (error) {
    throw tokenError(error);
  }
}

/** A verification failure as the 401 that the caller sees; what could not be fetched is a 503 instead. */
export function tokenError(error: unknown): Error {
  if (error instanceof Error && error.name === 'AppError') return error;
  const code = typeof error === 'object' && error !== null && 'code' in error ? String(error.code) : '';
  if (code === 'ERR_JWT_EXPIRED')
    return unauthorized('auth.token_expired', 'The token has expired. Sign in again.', error);
  return unauthorized('auth.token_invalid', 'The token is not valid here.', error);
}

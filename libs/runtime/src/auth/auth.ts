import { SCOPES } from '@tuneloop/contracts/route';
import type { Scope } from '@tuneloop/contracts/route';
import { NIL } from 'uuid';
import { AppError } from '../errors.ts';

export type AuthKind = 'user' | 'api_key' | 'service' | 'anonymous';

/** Who calls, for which project, and what they may do. */
export interface Auth {
  readonly projectId: string;
  /** User id, API key id or service name. */
  readonly subject: string;
  /** For audit and provenance: `user:<id>`, `key:<id>`, `service:<name>`; a service passes on the one it acts for. */
  readonly actor: string;
  readonly scopes: readonly Scope[];
  /** The person's role in the project (`owner`, `engineer`, `reviewer`, `viewer`), or the key's; empty for services. */
  readonly role: string;
  readonly kind: AuthKind;
}

/** Answers who sent a request. `authorization` and `apikey` are the header values as received. */
export interface Authenticator {
  /** @throws AppError 401 when there are no valid credentials, 503 when they could not be checked. */
  authenticate(headers: CredentialHeaders): Promise<Auth>;
}

export interface CredentialHeaders {
  readonly authorization?: string | undefined;
  readonly apikey?: string | string[] | undefined;
}

/** Project of callers that belong to none: row level security shows it nothing. */
export const NO_PROJECT = NIL;

export const ANONYMOUS: Auth = Object.freeze({
  projectId: NO_PROJECT,
  subject: 'anonymous',
  actor: 'anonymous',
  scopes: [],
  role: '',
  kind: 'anonymous',
});

/** `service` is held by services alone and covers all; `admin` covers all but `service`. Other scopes stand for themselves. */
export function hasScope(auth: Auth, scope: Scope): boolean {
  if (auth.kind === 'service') return auth.scopes.includes('service') || auth.scopes.includes(scope);
  if (scope === 'service') return false;
  return auth.scopes.includes(scope) || auth.scopes.includes('admin');
}

/** @throws AppError 403 naming the scope that is missing. */
export function requireScope(auth: Auth, scope: Scope): void {
  if (hasScope(auth, scope)) return;
  const message =
    scope === 'service'
      ? 'This address is for calls between services.'
      : `These credentials lack the scope "${scope}". Use a key or a role that has it.`;
  throw new AppError({ code: 'auth.scope_missing', status: 403, message });
}

export function unauthorized(code: string, message: string, cause?: unknown): AppError {
  return new AppError({ code, status: 401, message, ...(cause === undefined ? {} : { cause }) });
}

const KNOWN: ReadonlySet<string> = new Set(SCOPES);

/** Drops scopes that this release does not know, so that a newer issuer does not break an older service. */
export function knownScopes(scopes: readonly string[]): Scope[] {
  return scopes.filter((scope): scope is Scope => KNOWN.has(scope));
}

/** What each role of a project may do. Unknown roles may only read. */
export function scopesOfRole(role: string): readonly Scope[] {
  switch (role) {
    case 'owner':
      return ['read', 'write', 'feedback', 'train', 'admin'];
    case 'engineer':
      return ['read', 'write', 'feedback', 'train'];
    case 'reviewer':
      return ['read', 'feedback'];
    default:
      return ['read'];
  }
}

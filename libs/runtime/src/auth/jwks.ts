import type { PublicJwk, SigningKey } from './keys.ts';

export interface JwksDocument {
  readonly keys: readonly PublicJwk[];
}

/** The document behind `/.well-known/jwks.json`. Give retired keys as well while their tokens may still be around. */
export function buildJwks(keys: readonly SigningKey[]): JwksDocument {
  return { keys: keys.map((key) => key.publicJwk) };
}

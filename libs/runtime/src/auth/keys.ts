import { createHash, createPrivateKey, createPublicKey, hkdfSync } from 'node:crypto';
import type { KeyObject } from 'node:crypto';

/** Which tokens a key signs; a token of one issuer never verifies with the other's key. */
export type KeyLabel = 'gateway' | 'service';

export interface PublicJwk {
  readonly kty: 'OKP';
  readonly crv: 'Ed25519';
  readonly x: string;
  readonly kid: string;
  readonly use: 'sig';
  readonly alg: 'EdDSA';
}

export interface SigningKey {
  readonly label: KeyLabel;
  /** `<label>-<first 16 hex digits of the public key's SHA-256>`. */
  readonly kid: string;
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
  readonly publicJwk: PublicJwk;
}

const MIN_SECRET_BYTES = 32;
const SEED_BYTES = 32;
/** DER of a PKCS#8 Ed25519 private key up to the seed (RFC 8410, section 7). */
const PKCS8_ED25519_PREFIX = Buffer.from('302e020100300506032b657004220420', 'hex');
const HKDF_SALT = 'tuneloop';

/**
 * HKDF-SHA256 (RFC 5869) of a configured secret, bound to a purpose.
 * @throws Error when the secret is shorter than 32 bytes.
 */
export function deriveBytes(secret: string, purpose: string, length = SEED_BYTES): Buffer {
  if (Buffer.byteLength(secret) < MIN_SECRET_BYTES) {
    throw new Error(`the secret must have at least ${MIN_SECRET_BYTES} bytes; make one with: openssl rand -base64 48`);
  }
  return Buffer.from(hkdfSync('sha256', secret, HKDF_SALT, purpose, length));
}

/** The Ed25519 key that every process holding the secret derives alike: there is no key file to hand around. */
export function deriveSigningKey(secret: string, label: KeyLabel): SigningKey {
  const seed = deriveBytes(secret, `tuneloop/${label}-token/ed25519/v1`);
  const privateKey = createPrivateKey({
    key: Buffer.concat([PKCS8_ED25519_PREFIX, seed]),
    format: 'der',
    type: 'pkcs8',
  });
  const publicKey = createPublicKey(privateKey);
  const { x } = publicKey.export({ format: 'jwk' });
  if (!x) throw new Error('an Ed25519 key without a public part');
  const kid = `${label}-${createHash('sha256').update(Buffer.from(x, 'base64url')).digest('hex').slice(0, 16)}`;
  const publicJwk: PublicJwk = { kty: 'OKP', crv: 'Ed25519', x, kid, use: 'sig', alg: 'EdDSA' };
  return { label, kid, privateKey, publicKey, publicJwk };
}

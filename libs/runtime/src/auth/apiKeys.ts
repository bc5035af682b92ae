import { createHmac, randomBytes, randomInt, timingSafeEqual } from 'node:crypto';

/** `tl_<public id>_<secret>`: the id finds the row, the 256-bit secret is kept only as a keyed hash. */
const API_KEY_PATTERN = /^tl_([A-Za-z0-9]{8})_([A-Za-z0-9_-]{43})$/;
const ID_ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';
const ID_CHARS = 8;
const SECRET_BYTES = 32;

export interface ApiKeyParts {
  /** Shown in lists and logs. */
  readonly id: string;
  /** The whole key, shown once. */
  readonly key: string;
}

export function newApiKey(): ApiKeyParts {
  const id = Array.from({ length: ID_CHARS }, () => ID_ALPHABET[randomInt(ID_ALPHABET.length)]).join('');
  return { id, key: `tl_${id}_${randomBytes(SECRET_BYTES).toString('base64url')}` };
}

/** The public id when the text has the form of a key, else undefined. */
export function apiKeyId(key: string): string | undefined {
  return API_KEY_PATTERN.exec(key)?.[1];
}

/** HMAC-SHA256 of the key: 32 bytes to store. A stolen table is of no use without `secret`. */
export function keyedHash(secret: string | Buffer, key: string): Buffer {
  return createHmac('sha256', secret).update(key).digest();
}

/** Compares in constant time. */
export function keyedHashMatches(secret: string | Buffer, key: string, stored: Uint8Array): boolean {
  const hash = keyedHash(secret, key);
  return stored.byteLength === hash.byteLength && timingSafeEqual(hash, stored);
}

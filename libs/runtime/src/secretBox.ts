import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { deriveBytes } from './auth/keys.ts';
import { AppError } from './errors.ts';

/** What a sealed value belongs to. Opened anywhere else, it fails: a row copied to another tenant is of no use. */
export interface SealContext {
  readonly projectId: string;
  /** Table, column and row id, for example `webhooks.secret:<id>`. */
  readonly row: string;
}

export interface SecretBoxOptions {
  /** Id of the key that seals. */
  readonly current: string;
  /** Every key that may still open something, by id: secrets of at least 32 bytes. */
  readonly keys: Readonly<Record<string, string>>;
}

const VERSION = 'sb1';
const ALGORITHM = 'aes-256-gcm';
/** NIST SP 800-38D: 96-bit random IVs hold for 2^32 messages a key. */
const IV_BYTES = 12;
const TAG_BYTES = 16;
const KEY_ID = /^[a-z0-9-]{1,32}$/;
const MAX_SECRET_BYTES = 64 * 1024;
const SEALED = /^sb1\.([a-z0-9-]{1,32})\.([\w-]{16})\.([\w-]{22,})$/;

/**
 * Encrypts third-party secrets at rest: AES-256-GCM, the key's id in the text, the owner as additional data.
 * To rotate: add a key, make it `current`, `reseal` what `needsResealing`, then drop the old key.
 */
export class SecretBox {
  readonly #current: string;
  readonly #keys = new Map<string, Buffer>();

  constructor(options: SecretBoxOptions) {
    for (const [id, secret] of Object.entries(options.keys)) {
      if (!KEY_ID.test(id)) throw new Error(`the key id "${id}" must be 1 to 32 of a-z, 0-9 and -`);
      this.#keys.set(id, deriveBytes(secret, `tuneloop/secret-box/${id}/v1`));
    }
    if (!this.#keys.has(options.current)) throw new Error(`there is no key "${options.current}" to seal with`);
    this.#current = options.current;
  }

  /** `sb1.<key id>.<iv>.<ciphertext and tag>`, base64url. */
  seal(secret: string, context: SealContext): string {
    if (Buffer.byteLength(secret) > MAX_SECRET_BYTES)
      throw new RangeError(`a secret has at most ${MAX_SECRET_BYTES} bytes`);
    const iv = randomBytes(IV_BYTES);
    const cipher = createCipheriv(ALGORITHM, this.#key(this.#current), iv);
    cipher.setAAD(additionalData(this.#current, context));
    const sealed = Buffer.concat([cipher.update(secret, 'utf8'), cipher.final(), cipher.getAuthTag()]);
    return `${VERSION}.${this.#current}.${iv.toString('base64url')}.${sealed.toString('base64url')}`;
  }

  /** @throws AppError 500 `secrets.cannot_open` when the text, its owner or its key is another. */
  open(sealed: string, context: SealContext): string {
    const [, id, iv, body] = SEALED.exec(sealed) ?? [];
    if (id === undefined || iv === undefined || body === undefined) throw cannotOpen('it is not a sealed secret');
    const bytes = Buffer.from(body, 'base64url');
    if (bytes.byteLength < TAG_BYTES) throw cannotOpen('it is cut off');
    const decipher = createDecipheriv(ALGORITHM, this.#key(id), Buffer.from(iv, 'base64url'), {
      authTagLength: TAG_BYTES,
    });
    decipher.setAAD(additionalData(id, context));
    decipher.setAuthTag(bytes.subarray(-TAG_BYTES));
    try {
      return Buffer.concat([decipher.update(bytes.subarray(0, -TAG_BYTES)), decipher.final()]).toString('utf8');
    } catch (error) {
      throw cannotOpen('it was changed, or belongs to something else', error);
    }
  }

  /** Sealed with a key that is no longer the current one. */
  needsResealing(sealed: string): boolean {
    return SEALED.exec(sealed)?.[1] !== this.#current;
  }

  reseal(sealed: string, context: SealContext): string {
    return this.seal(this.open(sealed, context), context);
  }

  #key(id: string): Buffer {
    const key = this.#keys.get(id);
    if (!key) throw cannotOpen(`its key "${id}" is not configured`);
    return key;
  }
}

/** Length-prefixed, so that no two contexts run together. */
function additionalData(keyId: string, context: SealContext): Buffer {
  return Buffer.from(
    [VERSION, keyId, context.projectId, context.row].map((part) => `${Buffer.byteLength(part)}:${part}`).join(''),
  );
}

function cannotOpen(why: string, cause?: unknown): AppError {
  return new AppError({
    code: 'secrets.cannot_open',
    status: 500,
    message: `A stored secret cannot be opened: ${why}.`,
    retry: false,
    ...(cause === undefined ? {} : { cause }),
  });
}

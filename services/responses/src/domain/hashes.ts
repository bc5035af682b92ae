import { createHash } from 'node:crypto';

const GROUP_HASH_CHARS = 32;

/** Permanent split group of a prompt without a picture: spacing and case do not make another prompt. */
export function promptGroup(prompt: string): string {
  const normal = prompt.normalize('NFKC').replace(/\s+/g, ' ').trim().toLowerCase();
  return `prompt:${createHash('sha256').update(normal).digest('hex').slice(0, GROUP_HASH_CHARS)}`;
}

/** A seed in [0, 2^31) that depends only on its parts. */
export function seedOf(...parts: readonly string[]): number {
  return createHash('sha256').update(JSON.stringify(parts)).digest().readUInt32BE(0) >>> 1;
}

/** A point in [0, 1) that stays the same for the same parts: which side of a split a user is on. */
export function pointOf(...parts: readonly string[]): number {
  return createHash('sha256').update(JSON.stringify(parts)).digest().readUInt32BE(0) / 2 ** 32;
}

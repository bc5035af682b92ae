import { v5, v7 } from 'uuid';

/** Root of every deterministic id: ids made from the same parts are the same in every process and release. */
const ROOT_NAMESPACE = '6f1d1f0e-4d1b-5c55-9a37-0d7e3c1f7a10';

/** A new UUIDv7: sorts by time of making, monotonic within one process. */
export function newId(): string {
  return v7();
}

/**
 * A UUIDv5 that depends only on its parts, for rows that a redelivery or a retry must not double.
 * Parts are length-prefixed, so `('a', 'bc')` and `('ab', 'c')` differ.
 */
export function deterministicId(namespace: string, ...parts: readonly string[]): string {
  const name = [namespace, ...parts].map((part) => `${Buffer.byteLength(part)}:${part}`).join('');
  return v5(name, ROOT_NAMESPACE);
}

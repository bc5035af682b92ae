import { createHmac, timingSafeEqual } from 'node:crypto';

/** Addresses stay equal for this long, so that a browser's cache helps; each lives once to twice as long. */
const WINDOW_SECONDS = 3_600;
const TOKEN = /^([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.(\d{1,11})\.([\w-]{43})$/;

export interface ImageAddress {
  readonly projectId: string;
  readonly imageId: string;
}

function macOf(key: Buffer, { projectId, imageId }: ImageAddress, expiresAt: number): Buffer {
  return createHmac('sha256', key).update(`${projectId}.${imageId}.${expiresAt}`).digest();
}

/** Seconds since 1970 at which an address made now ends: the end of the next whole window, or `seconds` from now. */
export function addressEnd(now: Date, seconds?: number): number {
  const at = Math.floor(now.getTime() / 1000);
  return seconds === undefined ? (Math.floor(at / WINDOW_SECONDS) + 2) * WINDOW_SECONDS : at + seconds;
}

/** A token that shows one picture until `expiresAt` (seconds since 1970) and nothing else. */
export function signImageToken(key: Buffer, address: ImageAddress, expiresAt: number): string {
  return `${address.projectId}.${expiresAt}.${macOf(key, address, expiresAt).toString('base64url')}`;
}

/** The project whose picture the token shows; undefined when it is for another picture, forged or too old. */
export function verifyImageToken(key: Buffer, token: string, imageId: string, now: Date): string | undefined {
  const [, projectId, expires, mac] = TOKEN.exec(token) ?? [];
  if (projectId === undefined || expires === undefined || mac === undefined) return undefined;
  const given = Buffer.from(mac, 'base64url');
  const expected = macOf(key, { projectId, imageId }, Number(expires));
  if (given.length !== expected.length || !timingSafeEqual(given, expected)) return undefined;
  return Number(expires) * 1000 > now.getTime() ? projectId : undefined;
}

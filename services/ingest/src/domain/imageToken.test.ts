import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { addressEnd, signImageToken, verifyImageToken } from './imageToken.ts';

const key = randomBytes(32);
const projectId = '0190f5a2-7b3c-7def-8123-456789abcdef';
const imageId = '0190f5a2-7b3c-7def-8123-000000000001';
const other = '0190f5a2-7b3c-7def-8123-000000000002';
const now = new Date('2026-03-01T12:34:56Z');
const end = Math.floor(now.getTime() / 1000) + 60;
const token = signImageToken(key, { projectId, imageId }, end);

describe('image token', () => {
  it('shows its picture until its end', () => {
    expect(verifyImageToken(key, token, imageId, now)).toBe(projectId);
    expect(verifyImageToken(key, token, imageId, new Date(end * 1000 - 1))).toBe(projectId);
    expect(verifyImageToken(key, token, imageId, new Date(end * 1000))).toBeUndefined();
  });

  it.each([
    ['another picture', token, other],
    ['another project', token.replace(projectId, other), imageId],
    ['a later end', token.replace(String(end), String(end + 1)), imageId],
    ['another signature', signImageToken(randomBytes(32), { projectId, imageId }, end), imageId],
    ['a cut signature', token.slice(0, -1), imageId],
    ['nothing', '', imageId],
    ['dots', '..', imageId],
  ])('does not show %s', (_case, given, id) => {
    expect(verifyImageToken(key, given, id, now)).toBeUndefined();
  });
});

describe('addressEnd', () => {
  it('is the same within an hour, and one to two hours ahead', () => {
    const hour = Date.parse('2026-03-01T12:00:00Z');
    expect(addressEnd(new Date(hour))).toBe(addressEnd(new Date(hour + 3_599_000)));
    expect(addressEnd(new Date(hour)) * 1000).toBe(hour + 2 * 3_600_000);
    expect(addressEnd(new Date(hour + 3_599_000)) * 1000).toBeGreaterThan(hour + 3_599_000 + 3_600_000);
    expect(addressEnd(now, 60)).toBe(end);
  });
});

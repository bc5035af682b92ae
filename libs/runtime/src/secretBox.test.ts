import { describe, expect, it } from 'vitest';
import { AppError } from './errors.ts';
import { newId } from './ids.ts';
import { SecretBox } from './secretBox.ts';

const OLD = 'the old secret, which is 32 bytes or more';
const NEW = 'the new secret, which is 32 bytes or more';
const box = new SecretBox({ current: 'k1', keys: { k1: OLD } });
const context = { projectId: newId(), row: 'webhooks.secret:1' };

describe('a secret box', () => {
  it('opens what it sealed, and seals differently each time', () => {
    for (const secret of ['', 'whsec_abc', 'ünïcode 🎣'])
      expect(box.open(box.seal(secret, context), context)).toBe(secret);
    const sealed = box.seal('whsec_abc', context);
    expect(sealed).toMatch(/^sb1\.k1\./);
    expect(sealed).not.toBe(box.seal('whsec_abc', context));
    expect(sealed).not.toContain('whsec');
  });

  it('opens nothing for another tenant, another row, another key, or after a change', () => {
    const sealed = box.seal('whsec_abc', context);
    const [version, id, iv, body] = sealed.split('.') as [string, string, string, string];
    const flip = (text: string) => (text.startsWith('A') ? 'B' : 'A') + text.slice(1);
    const attempts: [string, typeof context, SecretBox][] = [
      [sealed, { ...context, projectId: newId() }, box],
      [sealed, { ...context, row: 'webhooks.secret:2' }, box],
      [sealed, context, new SecretBox({ current: 'k1', keys: { k1: NEW } })],
      [sealed, context, new SecretBox({ current: 'k2', keys: { k2: OLD } })],
      [`${version}.${id}.${flip(iv)}.${body}`, context, box],
      [`${version}.${id}.${iv}.${flip(body)}`, context, box],
      [sealed.slice(0, -4), context, box],
      ['plain text', context, box],
      ['', context, box],
    ];
    for (const [text, owner, opener] of attempts) expect(() => opener.open(text, owner)).toThrow(AppError);
  });

  it('rotates: the new box opens the old, and reseals it under the new key', () => {
    const sealed = box.seal('whsec_abc', context);
    const both = new SecretBox({ current: 'k2', keys: { k1: OLD, k2: NEW } });
    expect(both.needsResealing(sealed)).toBe(true);
    const resealed = both.reseal(sealed, context);
    expect(both.needsResealing(resealed)).toBe(false);
    expect(new SecretBox({ current: 'k2', keys: { k2: NEW } }).open(resealed, context)).toBe('whsec_abc');
  });

  it('refuses keys that are weak or missing, and secrets without bound', () => {
    expect(() => new SecretBox({ current: 'k1', keys: { k1: 'short' } })).toThrow('at least 32 bytes');
    expect(() => new SecretBox({ current: 'k2', keys: { k1: OLD } })).toThrow('no key "k2"');
    expect(() => new SecretBox({ current: 'K 1', keys: { 'K 1': OLD } })).toThrow('key id');
    expect(() => box.seal('x'.repeat(70_000), context)).toThrow(RangeError);
  });
});

import { expect, it } from 'vitest';
import { z } from 'zod';
import { deterministicId, newId } from './ids.ts';

it('makes UUIDv7 that sort by the order of their making', () => {
  const ids = Array.from({ length: 2_000 }, () => newId());
  expect(ids.toSorted()).toEqual(ids);
  expect(new Set(ids).size).toBe(2_000);
  expect(z.uuidv7().safeParse(ids[0]).success).toBe(true);
});

it('makes the same id of the same parts, for ever', () => {
  expect(deterministicId('reward', 'a', 'bc')).toBe(deterministicId('reward', 'a', 'bc'));
  expect(
    new Set([
      deterministicId('reward', 'a', 'bc'),
      deterministicId('reward', 'ab', 'c'),
      deterministicId('reward', 'abc'),
      deterministicId('rewards', 'a', 'bc'),
    ]).size,
  ).toBe(4);
  // Stored rows depend on this value.
  expect(deterministicId('reward', 'a', 'bc')).toBe('99420b60-6955-544c-9c7c-2fdbac0d8f52');
});

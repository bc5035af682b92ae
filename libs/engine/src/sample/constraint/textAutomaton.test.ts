import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { patternAutomaton, type TextAutomaton } from './textAutomaton.ts';

function accepts({ states }: TextAutomaton, text: string): boolean {
  let at = 0;
  for (const char of text) {
    const code = char.codePointAt(0)!;
    const step = states[at]!.steps.find(({ set }) => set.some(([low, high]) => low <= code && code <= high));
    if (step === undefined) return false;
    at = step.to;
  }
  return states[at]!.accepting;
}

const patterns = [
  'ab',
  '^ab',
  'ab$',
  '^a|b$',
  '^(a|b)*$',
  '^(?:a|ab)(?<x>c|bcd)?$',
  'a{2,3}b?',
  '^a{2}?$',
  '^a+?b*?$',
  '^.a.$',
  '^$',
  '',
  '[a-c]+[^a-c]',
  '^[\\w-]+$',
  '^\\S+\\s\\d$',
  '\\u0061\\x62',
  '^[\\u{1f600}-\\u{1f64f}]+$',
  '^[^\\n]*$',
  '^(a*)*b$',
  '[\\]\\-]',
  '^(^a|b)$',
  'a(b$|^c)',
  '^(?!a)',
  '^(?!.*bb)(?=.*c)[abc]+$',
  '^(?!^[ab]*$)(?:a|b|1)*',
  '^(?=ab)',
  '^\\W{1,2}\\D$',
]; // prettier-ignore

describe('patterns', () => {
  it.each(patterns)('%s accepts what RegExp finds', (source) => {
    const expression = new RegExp(source, 'u');
    const automaton = patternAutomaton(source, 'anywhere');
    const character = fc.constantFrom('a', 'b', 'c', 'd', '1', ' ', '\n', '-', ']', 'é', '😀');
    fc.assert(
      fc.property(fc.string({ unit: character, maxLength: 6 }), (text) => {
        expect(accepts(automaton, text)).toBe(expression.test(text));
      }),
      { numRuns: 200 },
    );
  });

  it.each([
    'a\\b',
    '(?!a)',
    '^a(?!b)',
    '^(?!a)b|c',
    '(?<=a)b',
    '(a)\\1',
    '\\p{L}',
    '(',
    'a{2000}',
    '((a{99}){99}){99}',
  ])('%s is refused', (source) => {
    expect(() => patternAutomaton(source, 'whole')).toThrow(
      expect.objectContaining({ code: 'engine.sample.unsupported_pattern' }),
    );
  });
});

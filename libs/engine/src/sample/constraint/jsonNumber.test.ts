import * as fc from 'fast-check';
import { expect, it } from 'vitest';
import { Automaton, type State } from './automaton.ts';
import { type Expr, Grammar } from './grammar.ts';
import { integerWithin, type Limits, numberWithin } from './jsonNumber.ts';

function reads(make: (grammar: Grammar, limits: Limits) => Expr | undefined, limits: Limits, text: string): boolean {
  const grammar = new Grammar();
  const root = make(grammar, limits);
  if (root === undefined) return false;
  const automaton = new Automaton(grammar, root);
  let state: State | null = automaton.start();
  for (const byte of Buffer.from(text)) {
    state = automaton.step(state, byte);
    if (state === null) return false;
  }
  return state.accepting;
}

function within(value: number, { low, high }: Limits): boolean {
  const above = low === undefined || value > low.value || (!low.exclusive && value === low.value);
  return above && (high === undefined || value < high.value || (!high.exclusive && value === high.value));
}

/** Few digits, so that bounds and numbers often meet. */
const decimal = fc.tuple(fc.integer({ min: -1200, max: 1200 }), fc.constantFrom(1, 10, 100)).map(([n, by]) => n / by);
const limit = fc.option(fc.record({ value: decimal, exclusive: fc.boolean() }), { nil: undefined });
const limits = fc
  .record({ low: limit, high: limit })
  .map(({ low, high }): Limits => ({ ...(low && { low }), ...(high && { high }) }));

it('takes exactly the integers within limits', () => {
  fc.assert(
    fc.property(limits, fc.integer({ min: -1300, max: 1300 }), (bounds, value) => {
      expect(reads(integerWithin, bounds, String(value))).toBe(within(value, bounds));
    }),
    { numRuns: 500 },
  );
});

it('takes exactly the decimals within limits', () => {
  fc.assert(
    fc.property(limits, decimal, fc.nat(2), (bounds, value, zeros) => {
      const text = String(value) + (String(value).includes('.') ? '' : '.0') + '0'.repeat(zeros);
      expect(reads(numberWithin, bounds, text)).toBe(within(value, bounds));
    }),
    { numRuns: 1000 },
  );
});

it('keeps numbers of many digits on their side of an exclusive limit', () => {
  const bounds = { low: { value: 12_345, exclusive: true }, high: { value: 12_346, exclusive: true } };
  expect(reads(numberWithin, bounds, '12345.9999999999')).toBe(true);
  // This one is 12346 when parsed.
  expect(reads(numberWithin, bounds, '12345.9999999999999')).toBe(false);
});

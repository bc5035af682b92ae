import { describe, expect, it } from 'vitest';
import fixture from '../fixtures/agreement.json' with { type: 'json' };
import {
  krippendorffAlpha,
  krippendorffAlphaInterval,
  quadraticWeightedKappa,
  quadraticWeightedKappaInterval,
} from './agreement.ts';
import { classificationReport, fieldF1, tokenF1 } from './f1.ts';

describe('quadratic-weighted kappa', () => {
  const { a, b, value } = fixture.kappa;

  it('equals scikit-learn', () => {
    expect(quadraticWeightedKappa(a, b)).toBeCloseTo(value, 10);
  });

  it('has an interval around it that shrinks with more items', () => {
    const few = quadraticWeightedKappaInterval(a.slice(0, 50), b.slice(0, 50), { resamples: 2000 });
    const all = quadraticWeightedKappaInterval(a, b, { resamples: 2000 });
    expect(all.value).toBeCloseTo(value, 10);
    expect(all.low).toBeLessThan(value);
    expect(all.high).toBeGreaterThan(value);
    expect(all.high - all.low).toBeLessThan(few.high - few.low);
  });

  it('is 1 for the same ratings, 0 for raters that never vary, and refuses none', () => {
    expect(quadraticWeightedKappa([1, 2, 5], [1, 2, 5])).toBe(1);
    expect(quadraticWeightedKappa([3, 3], [3, 3])).toBe(0);
    expect(() => quadraticWeightedKappa([], [])).toThrow(RangeError);
  });
});

describe("Krippendorff's alpha", () => {
  const { table } = fixture.krippendorff;

  it.each(['nominal', 'ordinal', 'interval'] as const)('equals the krippendorff package at the %s level', (level) => {
    expect(krippendorffAlpha(table, level)).toBeCloseTo(fixture.krippendorff[level], 10);
  });

  it('has an interval over units', () => {
    const { value, low, high, n } = krippendorffAlphaInterval(table, 'ordinal', { resamples: 1000 });
    expect(value).toBeCloseTo(fixture.krippendorff.ordinal, 10);
    expect(low).toBeLessThan(value);
    expect(high).toBeGreaterThan(value);
    expect(n).toBeGreaterThan(50);
  });

  it('refuses ratings that never meet', () => {
    expect(() =>
      krippendorffAlpha(
        [
          [1, null],
          [null, 2],
        ],
        'interval',
      ),
    ).toThrow(RangeError);
  });
});

describe('classification', () => {
  it('equals scikit-learn', () => {
    const { actual, predicted, accuracy, macro, perClass } = fixture.classification;
    const report = classificationReport(actual, predicted);
    expect(report.accuracy).toBeCloseTo(accuracy, 12);
    expect(report.macro.precision).toBeCloseTo(macro[0]!, 12);
    expect(report.macro.recall).toBeCloseTo(macro[1]!, 12);
    expect(report.macro.f1).toBeCloseTo(macro[2]!, 12);
    for (const { label, precision, recall, f1, support } of report.perClass) {
      const expected = new Map(Object.entries(perClass)).get(label)!;
      [precision, recall, f1, support].forEach((score, i) => expect(score).toBeCloseTo(expected[i]!, 12));
    }
  });
});

describe('token and field F1', () => {
  it('ignores case, punctuation, articles and order of words, but counts them', () => {
    expect(tokenF1('The red, red lamp!', 'a red LAMP').f1).toBeCloseTo(0.8, 12);
    expect(tokenF1('', 'x')).toEqual({ precision: 0, recall: 0, f1: 0 });
    expect(tokenF1('the', '').f1).toBe(1);
  });

  it('counts leaves by path and value', () => {
    const expected = { name: 'lamp', tags: ['red', 'old'], size: { w: 3, h: 4 } };
    expect(fieldF1({ tags: ['old', 'red'], size: { h: 4, w: 3 }, name: 'lamp' }, expected).f1).toBe(1);
    const close = fieldF1({ name: 'lamp', tags: ['red'], size: { w: '3', h: 4 }, extra: null }, expected);
    expect(close.precision).toBeCloseTo(3 / 5, 12); // "3" is not 3, extra is not wanted
    expect(close.recall).toBeCloseTo(3 / 5, 12);
    expect(fieldF1([{ a: 1 }, { a: 2 }], [{ a: 2 }, { a: 1 }]).f1).toBe(0);
    expect(fieldF1({ 'a.b': 1 }, { a: { b: 1 } }).f1).toBe(0);
  });
});

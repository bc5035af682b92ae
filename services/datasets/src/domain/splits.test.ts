import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { drawSplit, mergedSplit, type Split, SPLIT_ORDER, splitPoint } from './splits.ts';

const PROJECT = '0190d7a0-0000-7000-8000-000000000001';
const share = fc.double({ min: 0, max: 0.9, noNaN: true });
const split = fc.constantFrom<Split>(...SPLIT_ORDER);

describe('drawing a split', () => {
  it('is a function of project and group alone', () => {
    fc.assert(
      fc.property(fc.uuid(), fc.string(), share, share, (project, group, validation, test) => {
        expect(drawSplit(project, group, { validation, test })).toBe(drawSplit(project, group, { validation, test }));
      }),
    );
  });

  it('keeps what the shares promise, within four standard deviations', () => {
    const groups = 20_000;
    const shares = { validation: 0.15, test: 0.25 };
    const counts = { train: 0, validation: 0, test: 0 };
    for (let index = 0; index < groups; index++) counts[drawSplit(PROJECT, `group ${index}`, shares)] += 1;
    const expected = { ...shares, train: 0.6 };
    for (const name of SPLIT_ORDER) {
      const deviation = Math.sqrt(groups * expected[name] * (1 - expected[name]));
      expect(Math.abs(counts[name] - groups * expected[name])).toBeLessThan(4 * deviation);
    }
  });

  it('is another one in another project', () => {
    const shares = { validation: 0, test: 0.5 };
    const groups = Array.from({ length: 200 }, (_, index) => `g${index}`);
    const other = '0190d7a0-0000-7000-8000-000000000002';
    const differing = groups.filter((group) => drawSplit(PROJECT, group, shares) !== drawSplit(other, group, shares));
    expect(differing.length).toBeGreaterThan(50);
  });

  it('is the one that it was: a stored point', () => {
    // A change of these numbers would move groups of new projects only, but of every new project.
    expect(splitPoint(PROJECT, 'prompt:abc')).toBe(0.02171101905470252);
  });

  it('never takes a group out of test when the test share grows', () => {
    fc.assert(
      fc.property(fc.string(), share, share, share, (group, validation, a, b) => {
        const [less, more] = a < b ? [a, b] : [b, a];
        const before = drawSplit(PROJECT, group, { validation, test: less });
        const after = drawSplit(PROJECT, group, { validation, test: more });
        expect(before === 'test' && after !== 'test').toBe(false);
      }),
    );
  });
});

describe('merging', () => {
  it('lets test win, then validation, whatever the order', () => {
    fc.assert(
      fc.property(fc.array(split, { minLength: 1 }), (splits) => {
        const merged = mergedSplit(splits);
        expect(mergedSplit(splits.toReversed())).toBe(merged);
        expect(merged).toBe(SPLIT_ORDER.findLast((name) => splits.includes(name)));
      }),
    );
  });
});

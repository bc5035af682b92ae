import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  bandKeys,
  estimatedJaccard,
  jaccard,
  minHash,
  NEAR_DUPLICATE,
  shinglesOf,
  SIGNATURE_HASHES,
  wordsOf,
} from './minhash.ts';
import { createRandom } from './random.ts';

const uint32 = createRandom(7);
const random = (): number => uint32() / 2 ** 32;
const vocabulary = Array.from({ length: 4_000 }, (_, i) => `word${i}`);
const pick = (): string => vocabulary[Math.floor(random() * vocabulary.length)]!;
const passage = (words: number): string[] => Array.from({ length: words }, pick);

/** A copy with some words replaced, so that its similarity to the original lies near the wanted one. */
function altered(words: readonly string[], similarity: number): string[] {
  // One replaced word changes up to three trigrams of each text: with a share c of changed ones, J = (1 - c) / (1 + c).
  const changed = (1 - similarity) / (1 + similarity);
  const replace = Math.round((changed * words.length) / 3);
  const copy = [...words];
  for (let i = 0; i < replace; i++) copy[Math.floor(random() * copy.length)] = `${pick()}x`;
  return copy;
}

interface Planted {
  readonly shingles: Set<number>;
  readonly keys: number[];
  readonly signature: Uint32Array;
}
function planted(words: readonly string[]): Planted {
  const shingles = shinglesOf(words.join(' '));
  const signature = minHash(shingles);
  return { shingles, signature, keys: bandKeys(signature) };
}

describe('near-duplicates in a planted corpus', () => {
  const texts: Planted[] = [];
  for (let i = 0; i < 400; i++) {
    const original = passage(60 + Math.floor(random() * 200));
    texts.push(planted(original));
    for (const similarity of [0.97, 0.93, 0.87, 0.82, 0.7, 0.5]) texts.push(planted(altered(original, similarity)));
  }
  // Pairs of one origin are all pairs worth asking: texts of different origins share no trigram to speak of.
  const family = 7;
  const pairs = texts.flatMap((a, i) =>
    Array.from({ length: family - 1 - (i % family) }, (_, j) => [a, texts[i + j + 1]!] as const),
  );
  const near = pairs.map(([a, b]) => ({
    similarity: jaccard(a.shingles, b.shingles),
    candidate: a.keys.some((key) => b.keys.includes(key)),
  }));
  const recallFrom = (least: number, below = 1.01): number => {
    const wanted = near.filter(({ similarity }) => similarity >= least && similarity < below);
    expect(wanted.length).toBeGreaterThan(200);
    return wanted.filter(({ candidate }) => candidate).length / wanted.length;
  };

  it('finds at least 99% of the pairs at 0.9 and 95% at 0.8', () => {
    expect(recallFrom(0.9)).toBeGreaterThanOrEqual(0.99);
    expect(recallFrom(0.8)).toBeGreaterThanOrEqual(0.95);
    expect(recallFrom(0.8, 0.9)).toBeGreaterThanOrEqual(0.95);
  });

  it('calls nothing a near-duplicate that is none, and offers few others for the check', () => {
    const index = new Map<number, number[]>();
    texts.forEach(({ keys }, i) => keys.forEach((key) => index.set(key, [...(index.get(key) ?? []), i])));
    const candidates = new Set<string>();
    for (const group of index.values())
      for (const a of group) for (const b of group) if (a < b) candidates.add(`${a} ${b}`);
    const found = [...candidates].map((pair) => {
      const [a, b] = pair.split(' ').map((i) => texts[Number(i)]!);
      return { exact: jaccard(a!.shingles, b!.shingles) };
    });
    const reported = found.filter(({ exact }) => exact >= NEAR_DUPLICATE);
    const truth = near.filter(({ similarity }) => similarity >= NEAR_DUPLICATE);
    expect(reported.length).toBeLessThanOrEqual(truth.length);
    expect(reported.length / truth.length).toBeGreaterThanOrEqual(0.95);
    expect(candidates.size).toBeLessThan(4 * truth.length);
  });

  it('estimates the similarity without bias', () => {
    const errors = pairs.map(([a, b]) => estimatedJaccard(a.signature, b.signature) - jaccard(a.shingles, b.shingles));
    const mean = errors.reduce((sum, error) => sum + error, 0) / errors.length;
    const deviation = Math.sqrt(errors.reduce((sum, error) => sum + error * error, 0) / errors.length);
    expect(Math.abs(mean)).toBeLessThan(0.005);
    // A binomial share of so many places deviates by at most this.
    expect(deviation).toBeLessThan(0.5 / Math.sqrt(SIGNATURE_HASHES));
  });
});

describe('shingles', () => {
  it('do not see case, punctuation, spacing or compatibility forms', () => {
    expect(shinglesOf('The  Moon, raises\ntides!')).toEqual(shinglesOf('the moon raises ｔides'));
  });

  it('take a short text whole and an empty one as nothing', () => {
    expect(shinglesOf('two words').size).toBe(1);
    expect(shinglesOf('–').size).toBe(0);
    expect(wordsOf('月は潮')).toEqual(['月', 'は', '潮']);
  });

  it('give a signature that does not depend on the order of the set', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.nat(0xffff_ffff), { minLength: 1, maxLength: 50 }), (items) => {
        expect(minHash(new Set(items.toReversed()))).toEqual(minHash(new Set(items)));
        expect(bandKeys(minHash(new Set(items))).every((key) => Number.isSafeInteger(key))).toBe(true);
      }),
      { numRuns: 50 },
    );
  });
});

/** Hashes of a signature, `BANDS` times `ROWS` of them. */
export const BANDS = 18;
export const ROWS = 7;
export const SIGNATURE_HASHES = BANDS * ROWS;
/** Two texts of this Jaccard similarity or more are near-duplicates. */
export const NEAR_DUPLICATE = 0.8;

/** Words of one shingle. */
const SHINGLE_WORDS = 3;
const MAX_UINT32 = 0xffff_ffff;
/** Scripts that are written without spaces count by character. */
const WORD = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}]|[\p{L}\p{M}\p{N}]+/gu;
const SEEDS = hashSeeds();

/** Lower-case words without punctuation: what two texts are compared by. */
export function wordsOf(text: string): string[] {
  return text.normalize('NFKC').toLowerCase().match(WORD) ?? [];
}

/**
 * The set of hashed word trigrams of a text, 32 bits each; a shorter text is one shingle of all its words.
 * Empty when it has no words.
 */
export function shinglesOf(text: string): Set<number> {
  const words = wordsOf(text);
  const shingles = new Set<number>();
  if (words.length === 0) return shingles;
  const hashes = words.map(hashWord);
  const span = Math.min(SHINGLE_WORDS, words.length);
  for (let i = 0; i + span <= words.length; i++) {
    let hash = 0;
    for (let j = 0; j < span; j++) hash = mix(Math.imul(hash, 31) + hashes[i + j]!);
    shingles.add(hash >>> 0);
  }
  return shingles;
}

/** Jaccard similarity of two sets, in [0, 1]; two empty sets are alike. */
export function jaccard(a: ReadonlySet<number>, b: ReadonlySet<number>): number {
  const [small, large] = a.size <= b.size ? [a, b] : [b, a];
  let common = 0;
  for (const item of small) if (large.has(item)) common++;
  const union = a.size + b.size - common;
  return union === 0 ? 1 : common / union;
}

/**
 * MinHash signature of a set, `[SIGNATURE_HASHES]`: the least value of each of so many hash functions (Broder 1997).
 * The share of places in which two signatures agree is an unbiased estimate of the sets' Jaccard similarity.
 */
export function minHash(shingles: ReadonlySet<number>): Uint32Array {
  const signature = new Uint32Array(SIGNATURE_HASHES).fill(MAX_UINT32);
  for (const shingle of shingles) {
    for (let i = 0; i < SIGNATURE_HASHES; i++) {
      // A multiplication and a shift for each function; the shingle itself is mixed well already.
      const product = Math.imul(shingle ^ SEEDS[2 * i]!, SEEDS[2 * i + 1]!);
      const value = (product ^ (product >>> 15)) >>> 0;
      if (value < signature[i]!) signature[i] = value;
    }
  }
  return signature;
}

/** The share of places in which two signatures agree. */
export function estimatedJaccard(a: Uint32Array, b: Uint32Array): number {
  let same = 0;
  for (let i = 0; i < SIGNATURE_HASHES; i++) if (a[i] === b[i]) same++;
  return same / SIGNATURE_HASHES;
}

/**
 * Keys of a signature's bands, one each, 53 bits: two texts that share a key are candidates, to be verified by
 * `jaccard`. A pair of similarity s shares one with probability 1 - (1 - s^ROWS)^BANDS: 0.986 at 0.8, 0.99999 at 0.9,
 * 0.13 at 0.5 (Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, 3.4.2).
 */
export function bandKeys(signature: Uint32Array): number[] {
  return Array.from({ length: BANDS }, (_, band) => {
    let high = mix(band + 1);
    let low = mix(0x9e37_79b9 ^ band);
    for (let row = 0; row < ROWS; row++) {
      const value = signature[band * ROWS + row]!;
      high = mix(Math.imul(high, 31) + value);
      low = mix(Math.imul(low, 0x85eb_ca6b) ^ value);
    }
    return (high >>> 11) * 2 ** 32 + (low >>> 0);
  });
}

/** FNV-1a over UTF-16 units, then mixed. */
function hashWord(word: string): number {
  let hash = 0x811c_9dc5;
  for (let i = 0; i < word.length; i++) hash = Math.imul(hash ^ word.charCodeAt(i), 0x0100_0193);
  return mix(hash);
}

/** The finaliser of MurmurHash3, a bijection of 32 bits. */
function mix(value: number): number {
  let h = value | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85eb_ca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2_ae35);
  return (h ^ (h >>> 16)) | 0;
}

/** An offset and an odd factor for each hash function, the same for ever: stored keys are compared with new ones. */
function hashSeeds(): Int32Array {
  const seeds = new Int32Array(2 * SIGNATURE_HASHES);
  let state = 0x2545_f491;
  for (let i = 0; i < seeds.length; i++) {
    state = (state + 0x9e37_79b9) | 0;
    seeds[i] = i % 2 === 0 ? mix(state) : mix(state) | 1;
  }
  return seeds;
}

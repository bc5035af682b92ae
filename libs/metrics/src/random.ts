/** A source of unsigned 32-bit integers. */
export type Random = () => number;

const GOLDEN_GAMMA = 0x9e3779b9;
const FNV_OFFSET = 0x811c9dc5;
const FNV_PRIME = 0x01000193;
const TWO_POW_32 = 4294967296;

/**
 * xoshiro128** (Blackman and Vigna, "Scrambled Linear Pseudorandom Number Generators", 2021), its 128 bits of state
 * filled by a Weyl sequence through the MurmurHash3 finaliser, so that neighbouring seeds give unrelated streams.
 * The same seed gives the same stream on every machine. Not for secrets.
 *
 * @param seed an integer, or any string (hashed with FNV-1a)
 */
export function createRandom(seed: number | string): Random {
  let weyl = typeof seed === 'string' ? hashString(seed) : hashString(String(seed));
  const next32 = (): number => {
    weyl = (weyl + GOLDEN_GAMMA) | 0;
    let x = weyl;
    x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
    x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
    return x ^ (x >>> 16);
  };
  let a = next32();
  let b = next32();
  let c = next32();
  let d = next32() | 1; // an all-zero state would stay zero for ever
  return () => {
    const scrambled = Math.imul(b, 5);
    const result = Math.imul((scrambled << 7) | (scrambled >>> 25), 9) >>> 0;
    const shifted = b << 9;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c ^= shifted;
    d = (d << 11) | (d >>> 21);
    return result;
  };
}

/** A float in [0, 1) with 32 random bits. */
export function uniform(random: Random): number {
  return random() / TWO_POW_32;
}

/**
 * An integer in [0, n) for 1 <= n <= 2^20. The product is exact in a double; the bias of an unlucky n is below
 * n / 2^32, four thousandths of the resampling error of 10,000 draws even at the largest n.
 */
export function integerBelow(random: Random, n: number): number {
  return Math.floor((random() / TWO_POW_32) * n);
}

/** A standard normal variate (Box-Muller; the second of each pair is dropped to keep the stream stateless). */
export function gaussian(random: Random): number {
  const radius = Math.sqrt(-2 * Math.log((random() + 1) / (TWO_POW_32 + 1)));
  return radius * Math.cos(2 * Math.PI * uniform(random));
}

function hashString(text: string): number {
  let hash = FNV_OFFSET;
  for (let i = 0; i < text.length; i++) {
    hash = Math.imul(hash ^ text.charCodeAt(i), FNV_PRIME);
  }
  return hash | 0;
}

/** A stream of uniform numbers in [0, 1), each with 53 random bits. */
export type Random = () => number;

const WARM_UP_ROUNDS = 8;

/** splitmix32, used only to spread a seed over the state of {@link createRandom}. */
function seedWords(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x9e3779b9) >>> 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return (z ^ (z >>> 15)) >>> 0;
  };
}

/**
 * xoshiro128** (Blackman and Vigna, https://prng.di.unimi.it/): the same seed gives the same stream on every machine.
 * Integer arithmetic only, so nothing depends on the platform's libm.
 *
 * @param seed any safe integer; its low 32 bits and the 21 above them both count
 */
export function createRandom(seed: number): Random {
  const low = seedWords(seed);
  const high = seedWords(Math.floor(seed / 2 ** 32) ^ 0x5bd1e995);
  // splitmix32 is a bijection of its counter, so seeds that differ start from different states. `| 1`: never all zero.
  let a = low();
  let b = low();
  let c = high();
  let d = high() | 1;
  const next = (): number => {
    const product = Math.imul(b, 5);
    const result = Math.imul((product << 7) | (product >>> 25), 9) >>> 0;
    const t = b << 9;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c ^= t;
    d = (d << 11) | (d >>> 21);
    return result;
  };
  // Neighbouring seeds start close together; a few rounds part them.
  for (let i = 0; i < WARM_UP_ROUNDS; i++) next();
  return () => ((next() >>> 5) * 2 ** 26 + (next() >>> 6)) / 2 ** 53;
}

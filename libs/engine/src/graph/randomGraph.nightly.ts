import { expect, test } from 'vitest';
import { checkRandomGraph } from './randomGraph.ts';

const GRAPHS = 3000;
/** A few in a thousand graphs normalise numbers near zero, where float32 loses digits by cancellation; a fault is far above. */
const TOLERANCE = 2e-3;

test('thousands of random graphs have the gradients that differences in double precision have', async () => {
  for (let seed = 1_000_000; seed < 1_000_000 + GRAPHS; seed++) {
    const { operations, error } = await checkRandomGraph(seed);
    expect(error, `seed ${seed}: ${operations.join(', ')}`).toBeLessThan(TOLERANCE);
  }
}, 900_000);

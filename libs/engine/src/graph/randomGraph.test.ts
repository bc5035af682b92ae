import { describe, expect, test } from 'vitest';
import { checkRandomGraph } from './randomGraph.ts';

describe('random graphs of random shapes', () => {
  test('have the gradients that differences in double precision have', async () => {
    const seen = new Set<string>();
    for (let seed = 1; seed <= 60; seed++) {
      const { operations, error } = await checkRandomGraph(seed);
      for (const operation of operations) seen.add(operation);
      expect(error, `seed ${seed}: ${operations.join(', ')}`).toBeLessThan(1e-4);
    }
    // Every operation has had its turn.
    expect(seen.size).toBe(18);
  });
});

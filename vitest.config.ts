import { defineConfig } from 'vitest/config';

const nightly = process.env.TUNELOOP_NIGHTLY === '1';

export default defineConfig({
  test: {
    include: ['{libs,services,apps,infra,models,acceptance,bench,tools}/**/*.test.ts'].concat(
      nightly ? ['{libs,services,apps,infra,models,acceptance}/**/*.nightly.ts'] : [],
    ),
    exclude: ['**/node_modules/**', '**/dist/**'],
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 120_000,
    globalSetup: ['./libs/testkit/src/vitestGlobalSetup.ts'],
  },
});

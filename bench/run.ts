import { execFileSync } from 'node:child_process';
import { benchDuplicates } from './src/duplicates.ts';
import { benchEngine } from './src/engine.ts';
import { benchFeedback } from './src/feedback.ts';
import { benchMemory } from './src/memory.ts';
import type { Result } from './src/result.ts';
import { startBenchStack } from './src/stack.ts';

/** `pnpm bench [stack|documents|engine]`: each line a figure, a named reference measured in the same run, and their ratio. */
const only = process.argv[2];
const results: Result[] = [];

if (only === undefined || only === 'stack') {
  const stack = await startBenchStack();
  try {
    const bare = Number(
      execFileSync(process.execPath, ['-e', 'console.log(process.memoryUsage.rss())'], { encoding: 'utf8' }),
    );
    results.push(...benchMemory(stack, bare), ...(await benchFeedback(stack)));
  } finally {
    await stack.stop();
  }
}
const python = process.env.TUNELOOP_BENCH_PYTHON;
if ((only === undefined || only === 'documents') && python !== undefined) results.push(...benchDuplicates(python));
if (only === undefined || only === 'engine') results.push(...(await benchEngine()));

for (const result of results) {
  console.log(
    `${result.name}\n  ${result.value}   reference: ${result.reference}   ratio: ${result.ratio?.toFixed(2) ?? '–'}`,
  );
  console.log(`  ${result.method}\n`);
}

import { chmod, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from '@tuneloop/local/processes';
import { describe, expect, it } from 'vitest';
import { runCli } from '../src/stack.ts';

/**
 * The loop under every taste and many seeds, each a whole turn of the running product (about a minute). The report of a
 * turn says what was measured; nothing here computes a metric.
 */
interface Metric {
  readonly value: number;
  readonly low: number;
  readonly high: number;
}
interface Report {
  readonly evaluation: { readonly before: Record<string, Metric>; readonly after: Record<string, Metric> };
  readonly gate: { readonly decision: string; readonly reason: string };
}

const TASTES = ['accurate', 'vivid', 'plain'] as const;
const SEEDS = [1, 2, 3, 4, 5] as const;
const NULL_SEEDS = 20;
const TURN_TIMEOUT_MS = 400_000;

async function turn(flags: readonly string[]): Promise<{ status: number | null; report: Report }> {
  const dataDir = await mkdtemp(join(tmpdir(), 'tuneloop-tastes-'));
  await chmod(dataDir, 0o755);
  try {
    const file = join(dataDir, 'report.json');
    const port = String(await freePort());
    const { status, output } = await runCli(
      ['start', '--once', '--port', port, '--data', dataDir, '--report', file, ...flags],
      { timeoutMs: TURN_TIMEOUT_MS },
    );
    expect([0, 3], output).toContain(status);
    return { status, report: JSON.parse(await readFile(file, 'utf8')) as Report };
  } finally {
    await rm(dataDir, { recursive: true, force: true });
  }
}

describe('a stated taste is learned', () => {
  it.each(TASTES.flatMap((taste) => SEEDS.map((seed) => [taste, seed] as const)))(
    '%s, seed %i',
    async (taste, seed) => {
      const { report } = await turn(['--taste', taste, '--seed', String(seed)]);
      const { before, after } = report.evaluation;
      expect(after.freshReward!.low).toBeGreaterThan(before.freshReward!.high);
      expect(after.winRate!.value).toBeGreaterThanOrEqual(0.65);
      expect(after.winRate!.low).toBeGreaterThan(0.5);
      expect(after.perplexity!.value).toBeLessThan(before.perplexity!.value * 1.15);
    },
    TURN_TIMEOUT_MS,
  );

  it.each(TASTES)(
    'the opposite of %s moves the model the other way',
    async (taste) => {
      const wanted = await turn(['--taste', taste, '--seed', '1']);
      const opposite = await turn(['--taste', `not-${taste}`, '--seed', '1']);
      // The same pictures and the same base: what differs is whose taste was learned, each by its own scale.
      expect(opposite.report.evaluation.after.freshReward!.low).toBeGreaterThan(
        opposite.report.evaluation.before.freshReward!.high,
      );
      const moved = (report: Report, metric: string): number =>
        report.evaluation.after[metric]!.value - report.evaluation.before[metric]!.value;
      const telling = taste === 'accurate' ? 'wrongAttributes' : 'words';
      expect(Math.sign(moved(wanted.report, telling))).toBe(-Math.sign(moved(opposite.report, telling)));
    },
    2 * TURN_TIMEOUT_MS,
  );
});

it(
  `a null control is promoted in at most 1 of ${NULL_SEEDS} seeds`,
  async () => {
    let promoted = 0;
    for (let seed = 1; seed <= NULL_SEEDS; seed++) {
      const { status } = await turn(['--labels', 'shuffled', '--seed', String(seed)]);
      if (status === 0) promoted += 1;
    }
    expect(promoted).toBeLessThanOrEqual(1);
  },
  NULL_SEEDS * TURN_TIMEOUT_MS,
);

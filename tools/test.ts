import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { EXERCISE_DIR_ENV, loadContracts, readExercised, unexercised } from './contractCoverage.ts';

// Runs the tests: `npm test [-- <vitest arguments>]`, `--nightly` for the long ones too. A whole run also fails for each
// route and event of the contracts that no test exercised. Ends with a line `N passed, N failed[, N skipped]` and the
// runner's exit code.

const OLDEST_NODE = 24;

const root = resolve(import.meta.dirname, '..');

interface Outcome {
  passed: number;
  failed: number;
  skipped: number;
}

function numberAt(report: object, key: string): number {
  const value: unknown = Object.entries(report).find(([name]) => name === key)?.[1];
  return typeof value === 'number' ? value : 0;
}

/** Files that broke before their first test (a syntax error, a failed beforeAll) are failures of their own. */
function brokenFiles(report: object): number {
  const results: unknown = 'testResults' in report ? report.testResults : [];
  if (!Array.isArray(results)) return 0;
  return results.filter(
    (file: { status?: string; assertionResults?: { status?: string }[] }) =>
      file.status === 'failed' && !file.assertionResults?.some((test) => test.status === 'failed'),
  ).length;
}

function readOutcome(reportFile: string): Outcome | undefined {
  let report: unknown;
  try {
    report = JSON.parse(readFileSync(reportFile, 'utf8'));
  } catch {
    return undefined;
  }
  if (typeof report !== 'object' || report === null) return undefined;
  return {
    passed: numberAt(report, 'numPassedTests'),
    failed: numberAt(report, 'numFailedTests') + brokenFiles(report),
    skipped: numberAt(report, 'numPendingTests') + numberAt(report, 'numTodoTests'),
  };
}

async function runVitest(args: readonly string[], env: Readonly<Record<string, string>>): Promise<number> {
  const vitest = join(dirname(createRequire(import.meta.url).resolve('vitest/package.json')), 'vitest.mjs');
  const child = spawn(process.execPath, [vitest, 'run', ...args], {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, ...env },
  });
  // A Ctrl-C reaches the runner too; its own shutdown decides when this ends.
  process.on('SIGINT', () => undefined);
  process.on('SIGTERM', () => child.kill('SIGTERM'));
  return new Promise((done, reject) => {
    child.once('error', reject);
    child.once('exit', (code) => done(code ?? 1));
  });
}

/** Prints each contract that nothing in this run exercised; how many there are. */
async function reportUnexercised(directory: string): Promise<number> {
  const missing = unexercised(await loadContracts(), readExercised(directory));
  if (missing.length > 0) console.error(`\nContracts without a test that exercises them:\n  ${missing.join('\n  ')}`);
  return missing.length;
}

async function main(): Promise<number> {
  const version = Number(process.versions.node.split('.')[0]);
  if (version < OLDEST_NODE) {
    console.error(
      `Tuneloop runs on Node ${OLDEST_NODE} or newer; this is ${process.version}. On Linux "npm test" brings its own; elsewhere install it from https://nodejs.org.`,
    );
    return 1;
  }
  const args = process.argv.slice(2);
  const nightly = args.includes('--nightly');
  const vitestArgs = args.filter((arg) => arg !== '--nightly');
  const reportDir = mkdtempSync(join(tmpdir(), 'tuneloop-report-'));
  const reportFile = join(reportDir, 'report.json');
  const exerciseDir = join(reportDir, 'exercised');
  mkdirSync(exerciseDir);
  try {
    const code = await runVitest(
      ['--reporter=default', '--reporter=json', `--outputFile.json=${reportFile}`, ...vitestArgs],
      { [EXERCISE_DIR_ENV]: exerciseDir, ...(nightly ? { TUNELOOP_NIGHTLY: '1' } : {}) },
    );
    const { passed, failed, skipped } = readOutcome(reportFile) ?? { passed: 0, failed: 0, skipped: 0 };
    // The runner also fails for what belongs to no test: an error outside all of them, a setup that broke.
    const broken = failed === 0 && code !== 0 ? 1 : failed;
    // A part of the tests exercises a part of the contracts, and a broken test perhaps not what it is for.
    const whole = vitestArgs.length === 0 && broken === 0;
    const failures = broken + (whole ? await reportUnexercised(exerciseDir) : 0);
    console.log(`${passed} passed, ${failures} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`);
    return code === 0 && failures > 0 ? 1 : code;
  } finally {
    rmSync(reportDir, { recursive: true, force: true });
  }
}

process.exitCode = await main();

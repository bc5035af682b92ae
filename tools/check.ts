import { execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';

// Everything that guards a change, in the order of what fails soonest: lint, types, generated files, tests. All of them
// run even when one fails; the tests come last, so that their closing line `N passed, N failed` is the last one printed.

const root = resolve(import.meta.dirname, '..');

/** Runs a command of this workspace; true when it succeeded. */
async function succeeds(program: string, args: readonly string[]): Promise<boolean> {
  const child = spawn(program, args, {
    cwd: root,
    stdio: ['ignore', 'inherit', 'inherit'],
    shell: process.platform === 'win32',
  });
  return new Promise((done) => {
    child.once('error', (error) => {
      console.error(`${program}: ${error.message}`);
      done(false);
    });
    child.once('exit', (code) => done(code === 0));
  });
}

const GIT_OUTPUT_MAX_BYTES = 256 * 1024 * 1024;

function git(...args: string[]): string {
  return execFileSync('git', args, { cwd: root, encoding: 'utf8', maxBuffer: GIT_OUTPUT_MAX_BYTES });
}

/** A hash over everything that differs from the last commit, new files included. */
function workingTree(): string {
  const hash = createHash('sha256').update(git('diff', 'HEAD'));
  const added = git('ls-files', '--others', '--exclude-standard', '-z')
    .split('\0')
    .filter((name) => name !== '');
  for (const name of added) hash.update(name).update(readFileSync(resolve(root, name)));
  return hash.digest('hex');
}

/** Generated files are up to date when making them again changes nothing. */
async function generatedFilesAreCurrent(): Promise<boolean> {
  const before = workingTree();
  if (!(await succeeds(process.execPath, ['libs/contracts/bin/generate.ts']))) return false;
  if (workingTree() === before) return true;
  console.error(
    'Generated files were out of date; they are now rewritten. Commit them with the change that caused it.',
  );
  await succeeds('git', ['--no-pager', 'diff', '--stat']);
  return false;
}

const CHECKS: readonly { name: string; run(): Promise<boolean> }[] = [
  { name: 'lint', run: () => succeeds('npm', ['run', '--silent', 'lint']) },
  { name: 'types', run: () => succeeds('npm', ['run', '--silent', 'types']) },
  { name: 'generated files', run: generatedFilesAreCurrent },
];

const failed: string[] = [];
for (const check of CHECKS) {
  console.log(`--- ${check.name}`);
  if (!(await check.run())) failed.push(check.name);
}
console.log(failed.length === 0 ? '--- tests' : `--- tests (failed so far: ${failed.join(', ')})`);
const testsPassed = await succeeds(process.execPath, ['tools/test.ts', ...process.argv.slice(2)]);
process.exitCode = testsPassed && failed.length === 0 ? 0 : 1;

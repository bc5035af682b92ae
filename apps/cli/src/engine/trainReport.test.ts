import type { TrainProgress } from '@tuneloop/engine/types';
import { expect, it } from 'vitest';
import { drawCurve } from './lossCurve.ts';
import { TrainReport } from './trainReport.ts';

const progress = (step: number, loss: number, more: Partial<TrainProgress> = {}): TrainProgress => ({
  step,
  totalSteps: 40,
  epoch: step / 20,
  loss,
  learningRate: 1e-4,
  gradNorm: 0.5,
  tokensPerSecond: 400,
  ...more,
});

/** "Up" and "clear line", as they are written. */
const ESCAPE = new RegExp(`^${String.fromCodePoint(0x1b)}\\[(\\d*)([AJK])`);

/** What a terminal shows after escape codes for "up" and "clear line". */
function screen(output: string): string[] {
  const lines: string[] = [''];
  let row = 0;
  let rest = output;
  while (rest !== '') {
    const escape = ESCAPE.exec(rest);
    if (escape) {
      if (escape[2] === 'A') row -= Number(escape[1]);
      else if (escape[2] === 'J') lines.splice(row, Infinity, '');
      else lines[row] = '';
      rest = rest.slice(escape[0].length);
    } else if (rest.startsWith('\n')) {
      row++;
      lines[row] ??= '';
      rest = rest.slice(1);
    } else {
      lines[row] += rest[0]!;
      rest = rest.slice(1);
    }
  }
  return lines;
}

it('draws a falling curve from the upper left to the lower right, with validation losses marked', () => {
  const points = Array.from({ length: 40 }, (_, i) => ({ x: i + 1, y: 4 - i / 10 }));
  const lines = drawCurve(points, { xMax: 40, width: 50, height: 6, marks: [{ x: 40, y: 4 }] });
  expect(lines).toHaveLength(7);
  const drawn = lines.map((line) => line.slice(line.search(/[┤└]/) + 1));
  const starts = drawn.slice(0, 6).map((text) => text.search(/[\u2801-\u28FF]/));
  expect(starts).toEqual(starts.toSorted((a, b) => a - b));
  expect(starts[5]).toBeGreaterThan(20);
  expect(lines[0]).toMatch(/4\.000 ┤.*o$/);
  expect(lines[5]).toContain('0.100');
  expect(lines[6]).toMatch(/40$/);
});

it('draws a single point and a level curve', () => {
  const one = drawCurve([{ x: 1, y: 2 }], { xMax: 1, width: 30, height: 4 });
  const level = drawCurve(
    [1, 2, 3].map((x) => ({ x, y: 2 })),
    { xMax: 3, width: 30, height: 4 },
  );
  for (const lines of [one, level]) expect(lines.join('')).toMatch(/[\u2801-\u28FF]/);
});

it('rewrites a curve and one line in place on a terminal', () => {
  let now = 0;
  let output = '';
  const report = new TrainReport({ isTTY: true, columns: 80, write: (text) => (output += text) }, () => now);
  for (let step = 1; step <= 40; step++) {
    now += 150;
    report.progress(progress(step, 3 - step / 20, step % 10 === 0 ? { evalLoss: 2.5 } : {}));
  }
  const shown = screen(output).filter((line) => line !== '');
  expect(shown).toHaveLength(10);
  expect(shown.at(-1)).toMatch(/100%.*step 40\/40.*loss 1\.0000/);
  expect(shown.join('\n')).toContain('o');
  expect(Math.max(...shown.map((line) => line.length))).toBeLessThan(80);
});

it('puts the plan in the place of the stages, and leaves it there', () => {
  let output = '';
  const report = new TrainReport({ isTTY: true, columns: 80, write: (text) => (output += text) });
  report.stage('reading data.jsonl');
  report.plan({
    baseModel: 'nano',
    method: 'sft',
    parameters: 824_400,
    trainedParameters: 74_000,
    examples: 100,
    validationExamples: 10,
    tokens: 5_000,
    longest: 60,
    maxLength: 256,
    cut: [],
    left: [3, 9],
    epochs: 2,
    batchSize: 8,
    totalSteps: 26,
    learningRate: 2e-4,
    threads: 1,
    fourBit: false,
  });
  report.stage('compiling');
  report.progress(progress(1, 2));
  report.stopped(1, true, 'tuneloop train --resume --output out');
  const shown = screen(output);
  expect(shown.slice(0, 5).map((line) => line.split(/ +/)[0])).toEqual([
    'model',
    'method',
    'examples',
    'steps',
    'note',
  ]);
  expect(shown[4]).toContain('lines 3, 9');
  expect(shown.join('\n')).not.toMatch(/reading|compiling/);
  expect(shown.join('\n')).toMatch(/step .*1\/40[^]*stopped +after step 1[^]*train --resume/);
});

it('writes plain lines into a pipe: the first, the last, validation, and one every two seconds', () => {
  let now = 0;
  let output = '';
  const report = new TrainReport({ write: (text) => (output += text) }, () => now);
  for (let step = 1; step <= 40; step++) {
    now += 100;
    report.progress(progress(step, 1, step === 5 ? { evalLoss: 2 } : {}));
  }
  const steps = [...output.matchAll(/^step +(\d+)\//gm)].map((match) => Number(match[1]));
  expect(steps).toEqual([1, 5, 25, 40]);
  expect(output).toContain('validation 2.0000');
  expect(output).toMatch(/step 25\/40 .* 2 s left/);
  expect(output).not.toContain('\u001B');
});

/** What a training run looks like to the person at the terminal. */
import type { TrainProgress } from '@tuneloop/engine/types';
import { bar } from '../start/terminal.ts';
import { LiveBlock, type TextOutput } from './liveBlock.ts';
import { type CurvePoint, drawCurve } from './lossCurve.ts';
import type { TrainEstimate, TrainPlan, TrainSummary } from './trainMessages.ts';

const REDRAW_EVERY_MS = 100;
const PLAIN_EVERY_MS = 2_000;
const CURVE_HEIGHT = 8;
const MAX_WIDTH = 100;
/** Line numbers listed of examples that were cut or left out. */
const MAX_LINES_NAMED = 8;

export function formatCount(value: number): string {
  if (value >= 1e9) return `${(value / 1e9).toFixed(2)} B`;
  if (value >= 1e6) return `${(value / 1e6).toFixed(1)} M`;
  return value >= 1e4 ? `${(value / 1e3).toFixed(1)} k` : String(value);
}

export function formatBytes(bytes: number): string {
  return bytes >= 1e9 ? `${(bytes / 1e9).toFixed(2)} GB` : `${Math.ceil(bytes / 1e6)} MB`;
}

export function formatSeconds(seconds: number): string {
  const whole = Math.ceil(seconds);
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  return minutes < 60 ? `${minutes} min ${whole % 60} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function linesNamed(lines: readonly number[]): string {
  const named = lines.slice(0, MAX_LINES_NAMED).join(', ');
  const more = lines.length > MAX_LINES_NAMED ? ', …' : '';
  return `${lines.length === 1 ? 'line' : 'lines'} ${named}${more}`;
}

const rate = (value: number): string => value.toExponential(2);

/**
 * Shows a run: plan, then progress, then the end. On a terminal a loss curve and one line are drawn again in place; in a
 * file or pipe, every two seconds a line.
 */
export class TrainReport {
  readonly #out: TextOutput;
  readonly #live: LiveBlock | undefined;
  readonly #clock: () => number;
  readonly #losses: CurvePoint[] = [];
  readonly #marks: CurvePoint[] = [];
  #last: TrainProgress | undefined;
  #shownAt = Number.NEGATIVE_INFINITY;
  #firstStep: { readonly step: number; readonly at: number } | undefined;

  /** @param clock milliseconds */
  constructor(out: TextOutput, clock: () => number = () => performance.now()) {
    this.#out = out;
    this.#clock = clock;
    this.#live = out.isTTY === true ? new LiveBlock(out) : undefined;
  }

  #line(text: string): void {
    this.#out.write(`${text}\n`);
  }

  stage(text: string): void {
    if (this.#live) this.#live.show([`… ${text}`]);
    else if (text.startsWith('downloading')) this.#line(text);
  }

  plan(plan: TrainPlan): void {
    this.#live?.clear();
    const share = ((100 * plan.trainedParameters) / plan.parameters).toFixed(2);
    const held = plan.validationExamples === 0 ? 'none held out' : `${plan.validationExamples} held out`;
    const rows: [string, string][] = [
      ['model', `${plan.baseModel}, ${formatCount(plan.parameters)} parameters${plan.fourBit ? ' in 4 bits' : ''}`],
      ['method', `${plan.method}, LoRA of ${formatCount(plan.trainedParameters)} parameters (${share}%)`],
      ['examples', `${plan.examples} (${held}), ${formatCount(plan.tokens)} tokens, longest ${plan.longest}`],
      [
        'steps',
        `${plan.totalSteps}: ${plan.epochs} epochs in batches of ${plan.batchSize}, rate ${rate(plan.learningRate)}`,
      ],
    ];
    for (const [name, text] of rows) this.#line(`${name.padEnd(10)}${text}`);
    if (plan.cut.length > 0) {
      this.#line(`note      cut at ${plan.maxLength} tokens: ${linesNamed(plan.cut)} (see --max-length)`);
    }
    if (plan.left.length > 0) {
      this.#line(`note      left out, over ${plan.maxLength} tokens: ${linesNamed(plan.left)} (see --max-length)`);
    }
    if (plan.resumeStep !== undefined) this.#line(`resuming  after step ${plan.resumeStep} of ${plan.totalSteps}`);
  }

  estimate({ memoryBytes, seconds, executorReason }: TrainEstimate): void {
    this.#live?.clear();
    this.#line(`executor  ${executorReason}`);
    this.#line(`expected  memory ${formatBytes(memoryBytes)}, time about ${formatSeconds(seconds)}`);
  }

  progress(progress: TrainProgress): void {
    const now = this.#clock();
    this.#last = progress;
    this.#firstStep ??= { step: progress.step, at: now };
    this.#losses.push({ x: progress.step, y: progress.loss });
    if (progress.evalLoss !== undefined) this.#marks.push({ x: progress.step, y: progress.evalLoss });
    const ends = progress.step === progress.totalSteps || this.#losses.length === 1;
    const due = now - this.#shownAt >= (this.#live ? REDRAW_EVERY_MS : PLAIN_EVERY_MS);
    // In a file a validation loss is worth a line whenever it comes.
    if (!due && !ends && (this.#live !== undefined || progress.evalLoss === undefined)) return;
    this.#shownAt = now;
    this.#show(progress, now);
  }

  #show(progress: TrainProgress, now: number): void {
    const { step, totalSteps } = progress;
    const parts = [
      `step ${String(step).padStart(String(totalSteps).length)}/${totalSteps}`,
      `loss ${progress.loss.toFixed(4)}`,
      ...(progress.evalLoss === undefined ? [] : [`validation ${progress.evalLoss.toFixed(4)}`]),
      ...(progress.accuracy === undefined ? [] : [`accuracy ${progress.accuracy.toFixed(2)}`]),
      `rate ${rate(progress.learningRate)}`,
      `norm ${progress.gradNorm.toFixed(2)}`,
      `${Math.round(progress.tokensPerSecond)} tokens/s`,
    ];
    const first = this.#firstStep;
    if (first && step > first.step && step < totalSteps) {
      const seconds = ((now - first.at) / 1000 / (step - first.step)) * (totalSteps - step);
      parts.push(`${formatSeconds(seconds)} left`);
    }
    if (!this.#live) return this.#line(parts.join('  '));
    const width = Math.min(MAX_WIDTH, this.#out.columns ?? 80) - 1;
    const curve = drawCurve(this.#losses, { xMax: totalSteps, width, height: CURVE_HEIGHT, marks: this.#marks });
    this.#live.show([...curve, `${bar(step / totalSteps)}  ${parts.join('  ')}`]);
  }

  /** The last state of the curve, also when it was not due. */
  #finish(): void {
    if (this.#live && this.#last) {
      this.#show(this.#last, this.#clock());
      this.#live.end();
    } else this.#live?.clear();
  }

  trained(summary: TrainSummary, output: string): void {
    this.#finish();
    const { best, firstLoss, lastLoss, steps, seconds, tokensPerSecond, peakRssBytes } = summary;
    this.#line(
      `trained   ${steps} steps in ${formatSeconds(seconds)}, loss ${firstLoss.toFixed(4)} to ${lastLoss.toFixed(4)}, ` +
        `${Math.round(tokensPerSecond)} tokens/s, peak memory ${formatBytes(peakRssBytes)}`,
    );
    if (best)
      this.#line(`kept      step ${best.step}, where the validation loss was lowest: ${best.evalLoss.toFixed(4)}`);
    this.#line(`wrote     ${output}`);
  }

  stopped(step: number, saved: boolean, resumeCommand: string): void {
    this.#finish();
    this.#line(saved ? `stopped   after step ${step}; its state is saved` : 'stopped   before the first step');
    if (saved) this.#line(`go on with: ${resumeCommand}`);
  }

  /** Says that a stop was heard; the step in hand is finished first. */
  stopping(): void {
    if (this.#live) this.#finish();
    this.#line('stopping after this step; ctrl-C again stops at once and keeps the last saved state');
  }
}

/** `tuneloop train` for language models: flags to settings, the training process, the terminal. */
import { type CommandLine, INTERRUPTED_EXIT, snakeCase } from '../commands/engineFlags.ts';
import type { ExecutorKind, LoraTarget } from '@tuneloop/engine/types';
import { RunFolder } from './runFolder.ts';
import { TrainProcess } from './trainProcess.ts';
import { TrainReport } from './trainReport.ts';
import { type Method, type TrainSettings, trainSettings } from './trainSettings.ts';

export interface TrainFlags {
  readonly baseModel?: string;
  readonly dataset?: string;
  readonly method?: Method;
  readonly output?: string;
  readonly adapter?: string;
  readonly loraR?: number;
  readonly loraAlpha?: number;
  readonly targetModules?: readonly LoraTarget[];
  readonly epochs?: number;
  readonly batchSize?: number;
  readonly gradientAccumulation?: number;
  readonly learningRate?: number;
  readonly warmupRatio?: number;
  readonly weightDecay?: number;
  readonly maxLength?: number;
  readonly packing?: boolean;
  readonly beta?: number;
  readonly validation?: string;
  readonly validationSplit?: number;
  readonly earlyStopping?: number;
  readonly plainText?: boolean;
  readonly loadIn4bit?: boolean;
  readonly memory?: number;
  readonly executor?: ExecutorKind;
  readonly threads: number;
  readonly seed: number;
  readonly resume: boolean;
  readonly dryRun: boolean;
}

const DEFAULT_R = 16;
/** alpha / r when only the rank is given. */
const DEFAULT_SCALE = 2;

/** Flags that are no setting of the run. */
const NOT_SETTINGS = ['output', 'resume', 'dryRun', 'fineTune'];

function needed(value: string | undefined, flag: string, line: CommandLine): string {
  return value ?? line.usage(`${flag} is needed (see tuneloop train --help)`);
}

function freshSettings(flags: TrainFlags, line: CommandLine): TrainSettings {
  const loraR = flags.loraR ?? DEFAULT_R;
  if (flags.adapter !== undefined && ['loraR', 'loraAlpha', 'targetModules'].some((name) => line.given(name))) {
    line.usage('--lora-r, --lora-alpha and --target-modules are those of --adapter: leave them out');
  }
  if (flags.earlyStopping !== undefined && flags.validation === undefined && flags.validationSplit === undefined) {
    line.usage('--early-stopping needs held-out data to watch: add --validation-split 0.1 or --validation FILE');
  }
  if (flags.earlyStopping === 0) line.usage('--early-stopping must be at least 1; leave it out to run to the end');
  const settings = {
    ...flags,
    baseModel: needed(flags.baseModel, '--base-model', line),
    dataset: needed(flags.dataset, '--dataset', line),
    loraR,
    loraAlpha: flags.loraAlpha ?? DEFAULT_SCALE * loraR,
    packing: flags.packing ?? false,
    plainText: flags.plainText ?? false,
    loadIn4bit: flags.loadIn4bit ?? false,
  };
  const entries = Object.entries(settings).filter(([name]) => !NOT_SETTINGS.includes(name));
  return trainSettings.parse(Object.fromEntries(entries.map(([name, value]) => [snakeCase(name), value])));
}

/** A resumed run has the settings it began with: other flags would end with other bytes than the whole run. */
async function resumedSettings(flags: TrainFlags, folder: RunFolder, line: CommandLine): Promise<TrainSettings> {
  const stored = await folder.readSettings();
  const before = new Map<string, unknown>(Object.entries(stored));
  for (const [name, value] of Object.entries(flags)) {
    if (NOT_SETTINGS.includes(name) || !line.given(name)) continue;
    if (JSON.stringify(before.get(snakeCase(name))) === JSON.stringify(value)) continue;
    const flag = `--${snakeCase(name, '-')}`;
    line.usage(
      `${flag} is ${String(value)}, but the run began with ${String(before.get(snakeCase(name)))}: leave it out`,
    );
  }
  return stored;
}

/** Runs it and gives the exit code. @throws Error with a message for the terminal */
export async function runTraining(flags: TrainFlags, line: CommandLine): Promise<number> {
  const output = needed(flags.output, '--output', line);
  const folder = new RunFolder(output);
  const status = await folder.status();
  if (flags.resume && status === 'fresh') line.usage(`${output} holds no stopped run: leave --resume out`);
  if (flags.resume && status === 'finished') line.usage(`the run in ${output} is finished`);
  if (!flags.resume && !flags.dryRun && status !== 'fresh') {
    line.usage(
      status === 'finished'
        ? `${output} holds a trained adapter: give another --output`
        : `${output} holds a stopped run: go on with --resume, or give another --output`,
    );
  }
  const settings = flags.resume ? await resumedSettings(flags, folder, line) : freshSettings(flags, line);
  const report = new TrainReport(process.stdout);
  const training = new TrainProcess(
    { kind: 'train', settings, output, resume: flags.resume, dryRun: flags.dryRun },
    (message) => {
      if (message.kind === 'stage') report.stage(message.text);
      else if (message.kind === 'plan') report.plan(message.plan);
      else if (message.kind === 'estimate') report.estimate(message.estimate);
      else report.progress(message.progress);
    },
  );
  let asked = false;
  const onSignal = (): void => {
    if (asked) return training.kill();
    asked = true;
    report.stopping();
    training.stop();
  };
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  for (const signal of signals) process.on(signal, onSignal);
  try {
    const outcome = await training.outcome;
    if (outcome.kind === 'trained') report.trained(outcome.summary, output);
    if (outcome.kind === 'trained' || outcome.kind === 'planned') return 0;
    const saved = await folder.readState();
    if (outcome.kind === 'stopped' || asked) {
      report.stopped(saved?.step ?? 0, saved !== undefined, `tuneloop train --resume --output ${output}`);
      return INTERRUPTED_EXIT;
    }
    console.error(`error: ${outcome.message}`);
    if (saved) console.error(`The state of step ${saved.step} is saved: tuneloop train --resume --output ${output}`);
    return 1;
  } finally {
    for (const signal of signals) process.off(signal, onSignal);
  }
}

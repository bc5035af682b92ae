/**
 * The output folder of a training run:
 *
 *   training_args.json        what was asked for; written at the start
 *   metrics.csv               one line a step
 *   checkpoint/state-N.bin    the newest state, while the run is not finished
 *   adapter_config.json, adapter_model.safetensors, manifest.json    at the end
 */
import { appendFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PEFT_WEIGHTS_FILE } from '@tuneloop/engine/adapters/peft';
import type { TrainProgress } from '@tuneloop/engine/types';
import { type TrainSettings, trainSettings } from './trainSettings.ts';

const ARGS_FILE = 'training_args.json';
const MANIFEST_FILE = 'manifest.json';
const METRICS_FILE = 'metrics.csv';
const STATE_FOLDER = 'checkpoint';
const STATE_NAME = /^state-(\d+)\.bin$/;

const COLUMNS = [
  ['step', (p) => p.step],
  ['epoch', (p) => p.epoch],
  ['loss', (p) => p.loss],
  ['eval_loss', (p) => p.evalLoss],
  ['learning_rate', (p) => p.learningRate],
  ['grad_norm', (p) => p.gradNorm],
  ['tokens_per_second', (p) => p.tokensPerSecond],
  ['reward_margin', (p) => p.rewardMargin],
  ['accuracy', (p) => p.accuracy],
  ['divergence', (p) => p.divergence],
  ['desirable_reward', (p) => p.desirableReward],
  ['undesirable_reward', (p) => p.undesirableReward],
] as const satisfies readonly (readonly [string, (progress: TrainProgress) => number | undefined])[];
const HEADER = COLUMNS.map(([name]) => name).join();

export interface SavedRun {
  readonly step: number;
  readonly state: Uint8Array;
}

export class RunFolder {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  /** What the folder holds already. */
  async status(): Promise<'fresh' | 'unfinished' | 'finished'> {
    if ((await this.#states()).length > 0) return 'unfinished';
    return existsSync(join(this.path, PEFT_WEIGHTS_FILE)) ? 'finished' : 'fresh';
  }

  /** @throws Error when the folder holds no run that can be resumed */
  async readSettings(): Promise<TrainSettings> {
    const path = join(this.path, ARGS_FILE);
    let json: unknown;
    try {
      json = JSON.parse(await readFile(path, 'utf8'));
    } catch (cause) {
      throw new Error(`cannot resume: ${path} cannot be read`, { cause });
    }
    const parsed = trainSettings.safeParse(json);
    if (parsed.success) return parsed.data;
    const issue = parsed.error.issues[0]!;
    throw new Error(`cannot resume: ${path}: ${issue.path.map(String).join('.')} ${issue.message}`);
  }

  async writeSettings(settings: TrainSettings): Promise<void> {
    await mkdir(this.path, { recursive: true });
    await this.#replace(ARGS_FILE, `${JSON.stringify(settings, null, 2)}\n`);
  }

  async writeManifest(manifest: Readonly<Record<string, unknown>>): Promise<void> {
    await this.#replace(MANIFEST_FILE, `${JSON.stringify(manifest, null, 2)}\n`);
  }

  /** Begins metrics.csv; a resumed run keeps the lines up to the step it goes on from. */
  beginMetrics(afterStep: number): void {
    const path = join(this.path, METRICS_FILE);
    const before = afterStep > 0 && existsSync(path) ? readFileSync(path, 'utf8').trimEnd().split('\n').slice(1) : [];
    const kept = before.filter((line) => Number(line.split(',')[0]) <= afterStep);
    writeFileSync(path, `${[HEADER, ...kept].join('\n')}\n`);
  }

  appendMetrics(progress: TrainProgress): void {
    const cells = COLUMNS.map(([, value]) => value(progress) ?? '');
    appendFileSync(join(this.path, METRICS_FILE), `${cells.join()}\n`);
  }

  /** The newest state, if there is one. */
  async readState(): Promise<SavedRun | undefined> {
    const newest = (await this.#states()).at(-1);
    if (newest === undefined) return undefined;
    return { step: newest.step, state: await readFile(join(this.path, STATE_FOLDER, newest.name)) };
  }

  /** Keeps a state in place of older ones: a kill at any moment leaves one of the two whole. */
  async writeState(state: Uint8Array, step: number): Promise<void> {
    const older = await this.#states();
    await mkdir(join(this.path, STATE_FOLDER), { recursive: true });
    await this.#replace(join(STATE_FOLDER, `state-${step}.bin`), state);
    for (const { name, step: at } of older) if (at !== step) await rm(join(this.path, STATE_FOLDER, name));
  }

  async removeStates(): Promise<void> {
    await rm(join(this.path, STATE_FOLDER), { recursive: true, force: true });
  }

  async #states(): Promise<{ name: string; step: number }[]> {
    const names = await readdir(join(this.path, STATE_FOLDER)).catch((): string[] => []);
    return names
      .flatMap((name) => {
        const step = STATE_NAME.exec(name)?.[1];
        return step === undefined ? [] : [{ name, step: Number(step) }];
      })
      .toSorted((a, b) => a.step - b.step);
  }

  async #replace(file: string, content: string | Uint8Array): Promise<void> {
    const path = join(this.path, file);
    await writeFile(`${path}.partial`, content);
    await rename(`${path}.partial`, path);
  }
}

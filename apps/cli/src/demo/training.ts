import type { Client } from '@tuneloop/client/client';
import { whyRun } from '@tuneloop/contracts/gateway/http';
import {
  createRetrainingRequest,
  getRetrainingRequest,
  getRetrainingRun,
  type RetrainingRun,
} from '@tuneloop/contracts/scheduler/http';
import { bar, type Terminal } from '../start/terminal.ts';
import { poll } from './concurrency.ts';

const POLL_MS = 400;
const START_TIMEOUT_MS = 60_000;
const TURN_TIMEOUT_MS = 900_000;

/** What the services said during a run, newest of each kind. */
export type Story = ReadonlyMap<string, Readonly<Record<string, unknown>>>;

export interface FinishedRun {
  readonly run: RetrainingRun;
  readonly story: Story;
  /** When each kind of event was first said, in milliseconds since the epoch. */
  readonly at: ReadonlyMap<string, number>;
}

/** Asks for one turn of the loop and follows it to its decision. */
export async function retrain(client: Client, seed: number, terminal: Terminal): Promise<FinishedRun> {
  const request = await client.call(
    createRetrainingRequest,
    {
      body: {
        reason: 'The sample turn: learn the reviewer’s taste',
        priority: 'high',
        method: 'dpo',
        seed,
        dataset: { kind: 'dpo', include_synthetic: true },
      },
    },
    { idempotencyKey: crypto.randomUUID() },
  );
  const runId = await poll(
    async () =>
      (await client.call(getRetrainingRequest, { params: { id: request.id } })).retraining_run_id ?? undefined,
    POLL_MS,
    START_TIMEOUT_MS,
    'Starting the run',
  );
  return poll(
    async () => {
      const run = await client.call(getRetrainingRun, { params: { id: runId } });
      const { entries } = await client.call(whyRun, { params: { id: runId } });
      const story = new Map(entries.map((entry) => [entry.what, entry.detail ?? {}]));
      const at = new Map(entries.toReversed().map((entry) => [entry.what, Date.parse(entry.at)]));
      showProgress(run, story, terminal);
      if (run.status === 'failed') throw new Error(run.error_message ?? 'the run failed without a reason');
      // The deployment is switched after the decision: both belong to the turn.
      const done = run.status === 'completed' && (run.outcome !== 'promoted' || story.has('deployment.changed'));
      return done ? { run, story, at } : undefined;
    },
    POLL_MS,
    TURN_TIMEOUT_MS,
    'The turn',
  );
}

function showProgress(run: RetrainingRun, story: Story, terminal: Terminal): void {
  const progress = story.get('training.progressed');
  if (run.stage === 'dataset') terminal.progress('dataset', 'freezing a version');
  else if (run.stage === 'training' && progress) {
    const step = Number(progress.step);
    const total = Number(progress.total_steps);
    const left = typeof progress.seconds_left === 'number' ? `, ${Math.ceil(progress.seconds_left)} s left` : '';
    terminal.progress(
      'training',
      `${bar(step / total)}  step ${step} of ${total}, loss ${number(progress.loss)}${left}`,
    );
  } else if (run.stage === 'training') terminal.progress('training', 'loading the base model');
  else terminal.progress('evaluation', 'answering held-out prompts before and after, comparing blind');
}

export function number(value: unknown, digits = 3): string {
  return typeof value === 'number' ? value.toFixed(digits) : '–';
}

import { Client } from '@tuneloop/client/client';
import { getDatasetVersion } from '@tuneloop/contracts/datasets/http';
import { getStatistics } from '@tuneloop/contracts/rewards/http';
import { listDeployments, listPromotionDecisions } from '@tuneloop/contracts/trainer/http';
import { tasteNamed } from '@tuneloop/nano/taste';
import type { Terminal } from '../start/terminal.ts';
import { compareHeldOut } from './comparison.ts';
import { awaitCandidates, countResponses, uploadPictures } from './pictures.ts';
import type { Metric, TurnReport } from './report.ts';
import { reviewAnswers } from './reviewer.ts';
import { CANDIDATES, SAMPLE_PICTURES } from './sampleProject.ts';
import { type FinishedRun, number, retrain } from './training.ts';

export interface TurnOptions {
  readonly gatewayUrl: string;
  readonly apiKey: string;
  readonly seed: number;
  readonly taste: string;
  readonly shuffled: boolean;
  readonly terminal: Terminal;
}

/** Metrics in the order in which the table shows them, with words for people. */
const SHOWN_METRICS: readonly [string, string][] = [
  ['freshReward', 'reward of fresh answers'],
  ['winRate', 'win rate of fresh answers'],
  ['preferenceAccuracy', 'preference accuracy'],
  ['wrongAttributes', 'wrong attributes an answer'],
  ['words', 'words an answer'],
  ['perplexity', 'perplexity, clean captions'],
];

/**
 * One turn of the loop, driven from outside by the public API as a collector, a reviewer and an engineer would: pictures
 * in, answers rated, a run asked for. Nothing is scripted but the reviewer's taste.
 */
export async function runTurn(options: TurnOptions): Promise<TurnReport> {
  const { terminal, seed } = options;
  const taste = tasteNamed(options.taste);
  const client = new Client({ baseUrl: options.gatewayUrl, apiKey: options.apiKey });
  const seconds: Record<string, number> = {};
  const timed = async <T>(stage: string, work: () => Promise<T>): Promise<T> => {
    const started = performance.now();
    const result = await work();
    seconds[stage] = round((performance.now() - started) / 1000);
    return result;
  };
  terminal.line();
  terminal.line(`One turn of the loop. The scripted reviewer is "${taste.name}": ${taste.statement}`);
  if (options.shuffled) terminal.line('Null control: its ratings are dealt out at random among the answers.');

  const already = await countResponses(client);
  const sessionId = await timed('pictures', () => uploadPictures(client, SAMPLE_PICTURES, seed, terminal));
  terminal.done('pictures', `${SAMPLE_PICTURES} uploaded, measured and described`, seconds.pictures!);
  const prompts = await timed('answers', () =>
    awaitCandidates(client, sessionId, { prompts: SAMPLE_PICTURES, each: CANDIDATES, already }, terminal),
  );
  const responses = prompts.reduce((sum, prompt) => sum + prompt.responses.length, 0);
  terminal.done('answers', `${responses} candidates for ${prompts.length} prompts`, seconds.answers!);
  const feedback = await timed('feedback', () => reviewAnswers(client, prompts, options, terminal));
  terminal.done('feedback', `${feedback} ratings by the scripted reviewer (marked synthetic)`, seconds.feedback!);
  const finished = await timed('run', () => retrain(client, seed, terminal));
  const report = await buildReport(client, options, finished, {
    images: SAMPLE_PICTURES,
    prompts: prompts.length,
    responses,
    feedback,
  });
  Object.assign(seconds, stageSeconds(finished));
  showOutcome(report, seconds, terminal);
  if (finished.run.dataset_version_id !== null) {
    const rows = await timed('comparison', () => compareHeldOut(client, finished.run.dataset_version_id!, seed));
    terminal.line();
    terminal.table(['held-out picture', 'before', 'after (what serves now)'], rows);
    terminal.line();
  }
  return { ...report, seconds };
}

async function buildReport(
  client: Client,
  options: TurnOptions,
  finished: FinishedRun,
  made: { images: number; prompts: number; responses: number; feedback: number },
): Promise<Omit<TurnReport, 'seconds'>> {
  const { run, story } = finished;
  if (run.dataset_version_id === null)
    throw new Error(`the run ended without a dataset: ${run.error_message ?? run.outcome}`);
  const [version, decisions, deployments, statistics] = await Promise.all([
    client.call(getDatasetVersion, { params: { id: run.dataset_version_id } }),
    client.call(listPromotionDecisions, { query: { limit: 1 } }),
    client.call(listDeployments),
    client.call(getStatistics),
  ]);
  const decision = decisions.data[0];
  const completed = story.get('training.completed') ?? {};
  const evaluation = story.get('evaluation.completed') ?? {};
  if (!decision) throw new Error('the run is completed, but no decision is recorded');
  const { decision: verdict, reason, ...numbers } = decision;
  return {
    seed: options.seed,
    taste: options.taste,
    labels: options.shuffled ? 'shuffled' : 'true',
    counts: { ...made, rewards: statistics.rewards.total, preferences: version.examples },
    dataset: { id: version.id, hash: version.content_hash, splits: version.splits, testGroups: version.test_groups },
    job: {
      id: String(completed.job_id),
      steps: Number(completed.steps),
      firstLoss: optionalNumber(completed.first_loss),
      lastLoss: optionalNumber(completed.last_loss),
      tokensPerSecond: optionalNumber(completed.tokens_per_second),
      peakMemoryMb: optionalNumber(completed.peak_memory_mb),
    },
    evaluation: {
      before: (evaluation.before ?? {}) as Record<string, Metric>,
      after: (evaluation.after ?? {}) as Record<string, Metric>,
    },
    gate: { decision: verdict, reason, ...numbers },
    activeCheckpoint:
      deployments.data.find((deployment) => deployment.slot === run.slot)?.targets[0]?.checkpoint_id ?? null,
    runId: run.id,
  };
}

function stageSeconds({ at }: FinishedRun): Record<string, number> {
  const between = (from: string, to: string): number => round(((at.get(to) ?? 0) - (at.get(from) ?? 0)) / 1000);
  return {
    dataset: between('training.requested', 'dataset.ready'),
    training: between('dataset.ready', 'training.completed'),
    evaluation: between('training.completed', 'promotion.decided'),
  };
}

function showOutcome(
  report: Omit<TurnReport, 'seconds'>,
  seconds: Readonly<Record<string, number>>,
  terminal: Terminal,
): void {
  const { dataset, job, evaluation, gate } = report;
  const { train, validation, test } = dataset.splits;
  terminal.done(
    'dataset',
    `${train} train, ${validation} validation, ${test} test pairs, hash ${dataset.hash.slice(0, 12)}`,
    seconds.dataset!,
  );
  terminal.done(
    'training',
    `${job.steps} steps, loss ${number(job.firstLoss)} → ${number(job.lastLoss)}, ${number(job.tokensPerSecond, 0)} tokens/s`,
    seconds.training!,
  );
  terminal.done(
    'evaluation',
    `${dataset.testGroups} held-out prompts, fresh answers compared blind`,
    seconds.evaluation!,
  );
  terminal.line();
  terminal.table(
    ['on held-out prompts (95% interval)', 'before', 'after'],
    SHOWN_METRICS.filter(([key]) => evaluation.after[key] !== undefined).map(([key, label]) => [
      label,
      metric(evaluation.before[key]),
      metric(evaluation.after[key]),
    ]),
  );
  terminal.line();
  terminal.line(`  ${gate.reason}`);
}

function metric(value: Metric | undefined): string {
  if (!value) return '–';
  const interval = value.low === null || value.high === null ? '' : ` [${number(value.low)}, ${number(value.high)}]`;
  return `${number(value.value)}${interval}`;
}

function optionalNumber(value: unknown): number | null {
  return typeof value === 'number' ? value : null;
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}

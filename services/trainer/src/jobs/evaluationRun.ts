import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { getDatasetVersionInternal } from '@tuneloop/contracts/datasets/internal';
import { AppError } from '@tuneloop/runtime/errors';
import { assertLease, type Lease } from '@tuneloop/runtime/leases';
import { projectSettings } from '@tuneloop/runtime/projects';
import { downloadAdapter } from '../artefact.ts';
import { baseFolder } from '../baseModels.ts';
import type { TrainerContext } from '../config.ts';
import { evaluationTopP } from '../domain/defaults.ts';
import type { EvaluationInput, EvaluationOutcome } from '../domain/evaluation.ts';
import type { Evaluator } from '../domain/gateBlockers.ts';
import { isLocalMethod } from '../domain/job.ts';
import { quarterOf, refreshedShare } from '../domain/period.ts';
import { type CheckpointRow, findCheckpointById } from '../store/checkpoints.ts';
import { currentDeployment, type DeploymentTarget, findSlot, type SlotRow } from '../store/deployments.ts';
import { type EvaluationRow, findEvaluationById, updateEvaluation } from '../store/evaluations.ts';
import { findJobById, type JobRow } from '../store/jobs.ts';
import { type Decided, settleEvaluation } from '../usecases/settleEvaluation.ts';
import { baseTarget, preload, targetOf } from '../usecases/deploy.ts';
import { downloadSplit, readTestPrompts } from './datasetFiles.ts';
import { type Judged, judgeSamples, sampleBoth, type SampledPrompt } from './freshSamples.ts';
import { WorkerProcess } from './workerProcess.ts';

const WATCH_MS = 1_000;
/** Tries to decide while others decide in the same slot. */
const MAX_DECISIONS = 5;
const GROUP_HASH_CHARS = 16;

class EvaluationStopped extends Error {
  override readonly name = 'EvaluationStopped';
}

interface Subject {
  readonly job: JobRow;
  readonly checkpoint: CheckpointRow;
  readonly incumbent: DeploymentTarget;
  readonly temperature: number;
  readonly maxTokens: number;
}

/** One evaluation under one lease: sample, judge, score, decide. */
export class EvaluationRun {
  readonly #ctx: TrainerContext;
  readonly #lease: Lease;
  readonly #row: EvaluationRow;
  readonly #folder: string;
  readonly #stopped = new AbortController();
  #progress: EvaluationRow['progress'] = null;

  constructor(ctx: TrainerContext, lease: Lease, row: EvaluationRow, folder: string) {
    this.#ctx = ctx;
    this.#lease = lease;
    this.#row = row;
    this.#folder = folder;
  }

  async run(): Promise<void> {
    const signal = AbortSignal.any([this.#lease.signal, this.#stopped.signal]);
    let watching: Promise<void> = Promise.resolve();
    const watch = setInterval(() => {
      watching = watching.then(() => this.#watch()).catch((error: unknown) => this.#stopped.abort(error));
    }, WATCH_MS);
    const worker = new WorkerProcess(this.#ctx.log);
    try {
      await this.#evaluate(worker, signal);
    } catch (error) {
      if (this.#stopped.signal.reason instanceof EvaluationStopped) return;
      throw error;
    } finally {
      clearInterval(watch);
      await worker.close();
      await watching;
    }
  }

  async #watch(): Promise<void> {
    await this.#ctx.pg.withTenant(this.#lease.projectId, async (tx) => {
      await assertLease(tx, 'evaluations', this.#lease);
      const row = await findEvaluationById(tx, this.#lease.id);
      if (row?.status !== 'running') throw new EvaluationStopped(`the evaluation is ${row?.status ?? 'gone'}`);
      await updateEvaluation(tx, this.#lease.id, { progress: this.#progress });
    });
  }

  async #evaluate(worker: WorkerProcess, signal: AbortSignal): Promise<void> {
    const { callers, config, blobs } = this.#ctx;
    const { projectId } = this.#lease;
    const subject = await this.#subject();
    const { job, checkpoint, incumbent } = subject;
    const versionId = job.dataset_version_id!;
    const reader = { projectId, signal, correlationId: job.correlation_id };
    const version = await callers.call(getDatasetVersionInternal, { params: { id: versionId } }, reader);
    const prompts = await readTestPrompts(this.#ctx, reader, versionId, config.EVALUATION_MAX_PROMPTS);
    const candidate = targetOf(checkpoint);
    await preload(this.#ctx, projectId, candidate, job.correlation_id);
    const sampling = {
      ...reader,
      key: `evaluation-${this.#row.id}-${this.#row.attempts}`,
      seed: job.seed,
      samples: config.EVALUATION_SAMPLES,
      rounds: config.EVALUATION_ROUNDS,
      temperature: subject.temperature,
      topP: evaluationTopP(job.base_model),
      maxTokens: subject.maxTokens,
      onProgress: (stage: string, done: number, total: number) => {
        this.#progress = { stage, done, total };
      },
    };
    const [sampled, scored] = await Promise.all([
      sampleBoth(this.#ctx, prompts, { before: incumbent, after: candidate }, sampling),
      this.#score(worker, subject, signal),
    ]);
    const judged = await judgeSamples(this.#ctx, sampled, sampling);
    const samples = await blobs.put(projectId, Buffer.from(samplesText(sampled, judged)), {
      contentType: 'application/x-ndjson',
    });
    const testGroups = prompts.map(({ group_key: key }) => groupHash(key));
    const method = isLocalMethod(job.method) ? job.method : 'sft';
    const input = (slot: SlotRow | undefined): EvaluationInput => ({
      method,
      seed: `evaluation ${job.seed}`,
      fresh: judged?.groups ?? [],
      pairs: scored.pairs,
      guard: scored.guard,
      evaluator: evaluatorOf(judged),
      leakedGroups: version.leaked_groups,
      openQuarantines: version.open_quarantine,
      spending: {
        history: slot?.spending ?? null,
        quarter: quarterOf(this.#ctx.clock()),
        testSplit: version.test_fingerprint,
        refreshedShare: refreshedShare(slot?.spending_groups ?? null, testGroups),
        expectedDecisions: config.GATE_EXPECTED_DECISIONS,
      },
    });
    await this.#decide(worker, signal, subject, input, {
      judge: judged?.judge ?? null,
      samplesKey: samples.key,
      testGroups,
    });
  }

  /** The gate's word on the evidence and the slot as it is, settled unless the slot has changed meanwhile. */
  async #decide(
    worker: WorkerProcess,
    signal: AbortSignal,
    subject: Subject,
    input: (slot: SlotRow | undefined) => EvaluationInput,
    made: Pick<Decided, 'judge' | 'samplesKey' | 'testGroups'>,
  ): Promise<void> {
    const { projectId } = this.#lease;
    const { job, checkpoint, incumbent } = subject;
    for (let tries = 0; tries < MAX_DECISIONS; tries++) {
      const slot = await this.#ctx.pg.withTenant(projectId, (tx) => findSlot(tx, job.slot));
      this.#progress = { stage: 'deciding', done: 0, total: 1 };
      const answer = await worker.run({ kind: 'decide', input: input(slot) }, signal);
      if (answer.kind !== 'decided') throw new Error(`the worker answered ${answer.kind}`);
      const outcome: EvaluationOutcome = answer.outcome;
      if (outcome.decision.decision === 'promoted') {
        await preload(this.#ctx, projectId, targetOf(checkpoint), job.correlation_id);
      }
      signal.throwIfAborted();
      const settled = await settleEvaluation(this.#ctx, this.#lease, {
        ...made,
        job,
        checkpoint,
        incumbent,
        outcome,
        spendingVersion: slot?.spending_version ?? 0,
      });
      if (settled === 'done') return;
      if (settled === 'incumbent_changed') break;
    }
    throw new AppError({
      code: 'trainer.evaluation.overtaken',
      status: 409,
      message: 'What serves in the slot changed while it was compared with.',
      retry: true,
    });
  }

  async #subject(): Promise<Subject> {
    const { job_id: jobId, checkpoint_id: checkpointId, slot } = this.#row;
    return this.#ctx.pg.withTenant(this.#lease.projectId, async (tx) => {
      const job = await findJobById(tx, jobId);
      const checkpoint = await findCheckpointById(tx, checkpointId);
      if (!job?.dataset_version_id || !checkpoint) {
        throw new AppError({
          code: 'trainer.evaluation.nothing',
          status: 404,
          message: 'The checkpoint to evaluate is gone.',
          retry: false,
        });
      }
      const serving = (await currentDeployment(tx, slot))?.targets.toSorted((a, b) => b.weight - a.weight)[0];
      const incumbent = serving ?? baseTarget(job.base_model);
      const { weight: _weight, ...stored } = incumbent;
      await updateEvaluation(tx, this.#row.id, { incumbent: stored });
      const settings = await projectSettings(tx, this.#ctx);
      return { job, checkpoint, incumbent, temperature: settings.temperature, maxTokens: settings.max_tokens };
    });
  }

  async #score(worker: WorkerProcess, { job, checkpoint, incumbent }: Subject, signal: AbortSignal) {
    const { config, blobs } = this.#ctx;
    const { projectId } = this.#lease;
    const reader = { projectId, signal, correlationId: job.correlation_id };
    // Text of another base cannot be scored by this one's tokens: the base then stands for it.
    const comparable = incumbent.storage_key !== null && incumbent.base_model === job.base_model;
    const answer = await worker.run(
      {
        kind: 'score',
        baseFolder: baseFolder(config, job.base_model),
        threads: config.TRAINER_THREADS,
        testFile: await downloadSplit(this.#ctx, reader, job.dataset_version_id!, 'test', this.#folder),
        maxLength: job.settings?.hyper.maxLength ?? Number.MAX_SAFE_INTEGER,
        candidate: await downloadAdapter(blobs, projectId, checkpoint.storage_key, join(this.#folder, 'candidate')),
        incumbent: comparable
          ? await downloadAdapter(blobs, projectId, incumbent.storage_key!, join(this.#folder, 'incumbent'))
          : null,
      },
      signal,
    );
    if (answer.kind !== 'scored') throw new Error(`the worker answered ${answer.kind}`);
    return answer;
  }
}

function groupHash(groupKey: string): string {
  return createHash('sha256').update(groupKey).digest('hex').slice(0, GROUP_HASH_CHARS);
}

/** The sample project's reviewer is a person with a stated taste, played by a script; it says so everywhere. */
function evaluatorOf(judged: Judged | null): Evaluator {
  if (!judged || judged.judge.kind === 'scripted') return { kind: 'human', scripted: true };
  return { kind: 'judge', name: judged.judge.name, madeTrainingData: false, agreement: null };
}

/** One prompt a line with the answers of both sides, for those who want to look. */
function samplesText(sampled: readonly SampledPrompt[], judged: Judged | null): string {
  return sampled
    .map(({ prompt, before, after }, i) => {
      const comparisons = judged?.groups[i]?.comparisons ?? [];
      return `${JSON.stringify({ ...prompt, before, after, comparisons })}\n`;
    })
    .join('');
}

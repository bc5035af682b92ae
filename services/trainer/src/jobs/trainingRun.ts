import { createReadStream, createWriteStream } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { trainingStarted } from '@tuneloop/contracts/trainer/events';
import { AppError } from '@tuneloop/runtime/errors';
import { assertLease, type Lease } from '@tuneloop/runtime/leases';
import { emit } from '@tuneloop/runtime/outbox/emit';
import type { Tx } from '@tuneloop/runtime/pg/database';
import { downloadAdapter } from '../artefact.ts';
import { baseFolder, readBaseConfig } from '../baseModels.ts';
import type { TrainerContext } from '../config.ts';
import { resolveSettings, type TrainingSettings } from '../domain/defaults.ts';
import { isLocalMethod, type LocalMethod, mayRun } from '../domain/job.ts';
import { insertMessage } from '../store/curve.ts';
import { findJobById, isStateShared, type JobRow, lockJobById, updateJob } from '../store/jobs.ts';
import { finishTraining } from '../usecases/finishTraining.ts';
import { startingCheckpoint } from '../usecases/createJob.ts';
import type { TrainedMessage, TrainTask } from '../worker/messages.ts';
import { downloadSplit } from './datasetFiles.ts';
import { ProgressLog } from './progressLog.ts';
import { WorkerProcess } from './workerProcess.ts';

/** Progress is written, and a cancellation noticed, this often. */
const WATCH_MS = 1_000;

/** `stopped`: the job was cancelled or paused; its row says so. */
export type RunOutcome = 'finished' | 'stopped';

/**
 * One job from claim to checkpoint, under one lease. Every write names the lease's epoch first, so that a holder that
 * was taken over changes nothing. A run that is cut off anywhere is done again from its last saved state and ends with
 * the same bytes.
 */
export class TrainingRun {
  readonly #ctx: TrainerContext;
  readonly #lease: Lease;
  readonly #folder: string;
  #watchNow: () => void = () => undefined;

  constructor(ctx: TrainerContext, lease: Lease, folder: string) {
    this.#ctx = ctx;
    this.#lease = lease;
    this.#folder = folder;
  }

  /** The job's row has changed: looked at now instead of at the next second. */
  recheck(): void {
    this.#watchNow();
  }

  async run(): Promise<RunOutcome> {
    const started = await this.#start();
    if (!started) return 'stopped';
    const { job, method, settings } = started;
    const task = await this.#task(job, method, settings);
    const worker = new WorkerProcess(this.#ctx.log);
    const progress = new ProgressLog(this.#ctx, this.#lease, job);
    try {
      const trained = await this.#train(worker, task, job, progress);
      if (!trained) return 'stopped';
      await progress.flush();
      await finishTraining(this.#ctx, this.#lease, job, settings, trained, progress.evalLoss);
      return 'finished';
    } finally {
      await worker.close();
    }
  }

  /** Marks the job as training, with its settings frozen by the first who starts it. Null when it may not run. */
  async #start(): Promise<{ job: JobRow; method: LocalMethod; settings: TrainingSettings } | null> {
    const { pg, config, clock } = this.#ctx;
    const seen = await pg.withTenant(this.#lease.projectId, (tx) => findJobById(tx, this.#lease.id));
    if (!seen || !mayRun(seen.status)) return null;
    if (!isLocalMethod(seen.method)) throw new Error(`${seen.method} is not trained here`);
    const method = seen.method;
    const base = await readBaseConfig(baseFolder(config, seen.base_model));
    return pg.withTenant(this.#lease.projectId, async (tx) => {
      await assertLease(tx, 'training_jobs', this.#lease);
      const job = await lockJobById(tx, this.#lease.id);
      if (!job || !mayRun(job.status)) return null;
      const settings =
        job.settings ??
        resolveSettings({ baseModel: job.base_model, method, seed: job.seed }, job.hyperparameters, base.maxPositions);
      const updated = await updateJob(tx, job.id, {
        status: 'training',
        settings,
        started_at: job.started_at ?? clock(),
      });
      await insertMessage(
        tx,
        job.id,
        'info',
        job.state_step === null ? 'Training started.' : `Training resumed from step ${job.state_step}.`,
      );
      await emit(tx, trainingStarted, {
        subject: job.id,
        correlationId: job.correlation_id,
        data: {
          job_id: job.id,
          request_id: job.request_id,
          epoch: this.#lease.epoch,
          resumed_from_step: job.state_step,
        },
      });
      // As stored, also the first time: a takeover must hand the engine the very same settings, order of keys included.
      return { job: updated, method, settings: updated.settings ?? settings };
    });
  }

  /** Everything that the worker reads, as files. */
  async #task(job: JobRow, method: LocalMethod, settings: TrainingSettings): Promise<TrainTask> {
    const { config, pg, blobs } = this.#ctx;
    const { projectId, signal } = this.#lease;
    if (job.dataset_version_id === null) throw new Error(`job ${job.id} has no dataset version`);
    const reader = { projectId, signal, correlationId: job.correlation_id };
    const start = await pg.withTenant(projectId, (tx) => startingCheckpoint(tx, job));
    const startFrom = start
      ? await downloadAdapter(blobs, projectId, start.storage_key, join(this.#folder, 'start'))
      : null;
    return {
      kind: 'train',
      folder: this.#folder,
      baseModel: job.base_model,
      baseFolder: baseFolder(config, job.base_model),
      method,
      settings,
      threads: config.TRAINER_THREADS,
      trainFile: await downloadSplit(this.#ctx, reader, job.dataset_version_id, 'train', this.#folder),
      validationFile: await downloadSplit(this.#ctx, reader, job.dataset_version_id, 'validation', this.#folder),
      startFrom,
      reference: job.reference === 'base' ? 'base' : 'start',
      stateFile: await this.#downloadState(job),
      stateEverySteps: config.STATE_EVERY_STEPS,
      stateMinSeconds: config.STATE_MIN_SECONDS,
    };
  }

  async #downloadState(job: JobRow): Promise<string | null> {
    if (job.state_key === null) return null;
    const file = join(this.#folder, 'resume.bin');
    try {
      await pipeline(await this.#ctx.blobs.get(job.state_key), createWriteStream(file));
      return file;
    } catch (error) {
      if (!(error instanceof AppError) || error.status !== 404) throw error;
      this.#ctx.log.warn({ job: job.id }, 'the saved state is gone; the job starts over');
      return null;
    }
  }

  /** Runs the worker and watches the job's row. Null when it was cancelled or paused. */
  async #train(
    worker: WorkerProcess,
    task: TrainTask,
    job: JobRow,
    progress: ProgressLog,
  ): Promise<TrainedMessage | null> {
    const failed = new AbortController();
    const signal = AbortSignal.any([this.#lease.signal, failed.signal]);
    const guard = (work: Promise<void>): void => {
      work.catch((error: unknown) => failed.abort(error));
    };
    let watching: Promise<void> = Promise.resolve();
    this.#watchNow = () => {
      watching = watching.then(() => this.#watch(worker, progress));
      guard(watching);
    };
    const watch = setInterval(this.#watchNow, WATCH_MS);
    try {
      const answer = await worker.run(task, signal, (message) => {
        if (message.kind === 'progress') progress.add(message.progress);
        else if (message.kind === 'state') guard(this.#keepState(worker, job.id, message.file, message.step));
        else guard(this.#announceExamples(job.id, message.examples, message.skippedTooLong));
      });
      return answer.kind === 'trained' ? answer : null;
    } catch (error) {
      // A cancelled worker that had to be killed has stopped too.
      if (await this.#mayNotRun()) return null;
      throw error;
    } finally {
      clearInterval(watch);
      this.#watchNow = () => undefined;
      await watching.catch(() => undefined);
    }
  }

  async #watch(worker: WorkerProcess, progress: ProgressLog): Promise<void> {
    await progress.flush();
    if (await this.#mayNotRun()) worker.cancel();
  }

  async #mayNotRun(): Promise<boolean> {
    const job = await this.#inTenant((tx) => findJobById(tx, this.#lease.id));
    if (job?.status === 'queued') {
      // Paused and resumed before anyone stopped: it never stopped training.
      await this.#inTenant((tx) =>
        tx.execute(
          `UPDATE training_jobs SET status = 'training' WHERE id = $1 AND status = 'queued' AND lease_epoch = $2`,
          [this.#lease.id, this.#lease.epoch],
        ),
      );
    }
    return !job || !mayRun(job.status);
  }

  /** Stores a state that the worker has written, tells it to go on, and lets the one before go. */
  async #keepState(worker: WorkerProcess, jobId: string, file: string, step: number): Promise<void> {
    const { blobs } = this.#ctx;
    const { key } = await blobs.put(this.#lease.projectId, createReadStream(file));
    const previous = await this.#inTenant(async (tx) => {
      await assertLease(tx, 'training_jobs', this.#lease);
      const job = await findJobById(tx, jobId);
      await updateJob(tx, jobId, { state_key: key, state_step: step, attempts: 0 });
      const old = job?.state_key ?? null;
      return old === null || old === key || (await isStateShared(tx, old, jobId)) ? null : old;
    });
    worker.send({ kind: 'saved' });
    await rm(file, { force: true });
    if (previous !== null) await blobs.delete(previous);
  }

  async #announceExamples(jobId: string, examples: number, skipped: number): Promise<void> {
    const tooLong = skipped === 0 ? '' : `; ${skipped} were too long and are left out`;
    await this.#inTenant((tx) =>
      insertMessage(tx, jobId, skipped === 0 ? 'info' : 'warn', `Training on ${examples} examples${tooLong}.`),
    );
  }

  #inTenant<T>(work: (tx: Tx) => Promise<T>): Promise<T> {
    return this.#ctx.pg.withTenant(this.#lease.projectId, work, { actor: 'service:trainer' });
  }
}

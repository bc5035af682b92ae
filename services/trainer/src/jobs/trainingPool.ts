import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EngineError } from '@tuneloop/engine/errors';
import { AppError, describeError } from '@tuneloop/runtime/errors';
import { assertLease, type Lease, LeasedPool, LeaseLostError } from '@tuneloop/runtime/leases';
import type { Job } from '@tuneloop/runtime/service';
import type { TrainerContext } from '../config.ts';
import { isOver, type JobError, type JobStatus, mayRun } from '../domain/job.ts';
import { insertMessage } from '../store/curve.ts';
import { lockJobById, releaseLease, updateJob } from '../store/jobs.ts';
import { freezeJobFiles } from '../usecases/freezeJobFiles.ts';
import { failJob } from '../usecases/settleJob.ts';
import { backoffMs, giveBack, MAX_ATTEMPTS, retryLater } from './leaseEnd.ts';
import { TrainingRun } from './trainingRun.ts';
import { WorkerDiedError, WorkerFailedError } from './workerProcess.ts';

/** A holder that dies is taken over within lease and poll together: under 15 s. */
export const LEASE_MS = 10_000;
export const HEARTBEAT_MS = 2_000;
export const POLL_MS = 1_000;

/**
 * Trains leased jobs, each in a worker process of its own.
 *
 *   claimed -> (validating: files are frozen) -> training -> finished | stopped by a person
 *      |-- the worker dies          -> lease released -> claimed again, goes on from the last state
 *      |-- a passing failure        -> rests -> claimed again
 *      |-- a final failure          -> failed
 *      |-- shutdown, or lease lost  -> given back; nothing more is written
 */
export class TrainingPool implements Job {
  readonly name = 'training';
  readonly #ctx: TrainerContext;
  readonly #pool: LeasedPool;
  readonly #onTrained: () => void;
  /** What runs here now, by job. */
  readonly #runs = new Map<string, TrainingRun>();

  constructor(ctx: TrainerContext, onTrained: () => void) {
    this.#ctx = ctx;
    this.#onTrained = onTrained;
    this.#pool = new LeasedPool({
      pg: ctx.pg,
      log: ctx.log,
      table: 'training_jobs',
      claimFunction: 'claim_training_jobs',
      owner: ctx.instance,
      concurrency: ctx.config.TRAINING_CONCURRENCY,
      leaseMs: LEASE_MS,
      heartbeatMs: HEARTBEAT_MS,
      pollMs: POLL_MS,
      work: (lease) => this.#work(lease),
    });
  }

  start(): void {
    this.#pool.start();
  }

  async stop(): Promise<void> {
    await this.#pool.stop();
  }

  /** Due work was committed, or what runs was paused or cancelled. */
  wake(): void {
    this.#pool.wake();
    for (const run of this.#runs.values()) run.recheck();
  }

  async #work(lease: Lease): Promise<void> {
    const folder = await workFolder(this.#ctx, lease);
    try {
      const status = await this.#begin(lease);
      if (status === 'validating') await freezeJobFiles(this.#ctx, lease);
      if (status !== null) {
        const run = new TrainingRun(this.#ctx, lease, folder);
        this.#runs.set(lease.id, run);
        await run.run();
      }
      await this.#ctx.pg.withTenant(lease.projectId, (tx) => releaseLease(tx, 'training_jobs', lease));
      this.#onTrained();
    } catch (error) {
      await this.#settleFailure(lease, error);
    } finally {
      this.#runs.delete(lease.id);
      await rm(folder, { recursive: true, force: true });
    }
  }

  /** Counts the try; null when there is nothing to do. */
  async #begin(lease: Lease): Promise<JobStatus | null> {
    return this.#ctx.pg.withTenant(lease.projectId, async (tx) => {
      await assertLease(tx, 'training_jobs', lease);
      const job = await lockJobById(tx, lease.id);
      if (!job || !mayRun(job.status)) return null;
      if (job.attempts >= MAX_ATTEMPTS) {
        const message = `The job was begun ${MAX_ATTEMPTS} times without getting any further.`;
        await failJob(tx, job, { code: 'trainer.job.exhausted', message, param: null }, this.#ctx.clock());
        return null;
      }
      await updateJob(tx, job.id, { attempts: job.attempts + 1 });
      return job.status;
    });
  }

  async #settleFailure(lease: Lease, error: unknown): Promise<void> {
    const { pg, log, clock } = this.#ctx;
    if (error instanceof LeaseLostError || lease.signal.aborted) {
      await pg.withTenant(lease.projectId, (tx) => giveBack(tx, 'training_jobs', lease));
      return;
    }
    log.warn({ job: lease.id, reason: describeError(error) }, 'a training job did not finish');
    const final = finalError(error);
    await pg.withTenant(lease.projectId, async (tx) => {
      await assertLease(tx, 'training_jobs', lease);
      const job = await lockJobById(tx, lease.id);
      if (!job || isOver(job.status)) return releaseLease(tx, 'training_jobs', lease);
      if (final?.code === 'engine.train.bad_state' && job.state_key !== null) {
        await updateJob(tx, job.id, { state_key: null, state_step: null });
        await insertMessage(tx, job.id, 'warn', 'The saved state could not be used; training starts over.');
        return releaseLease(tx, 'training_jobs', lease);
      }
      if (final) {
        await failJob(tx, job, final, clock());
        return releaseLease(tx, 'training_jobs', lease);
      }
      if (error instanceof WorkerDiedError) {
        const from = job.state_step === null ? 'the beginning' : `step ${job.state_step}`;
        await insertMessage(tx, job.id, 'warn', `The worker process died; it goes on from ${from}.`);
        return releaseLease(tx, 'training_jobs', lease);
      }
      await insertMessage(tx, job.id, 'warn', `A passing failure; it will be tried again. ${publicMessage(error)}`);
      return retryLater(tx, 'training_jobs', lease, backoffMs(job.attempts));
    });
  }
}

/** A folder that only this holder of the lease writes to. */
export async function workFolder(ctx: TrainerContext, lease: Lease): Promise<string> {
  const root = ctx.config.TRAINER_WORK_DIR ?? tmpdir();
  await mkdir(root, { recursive: true });
  return mkdtemp(join(root, `tuneloop-job-${lease.id.slice(-8)}-${lease.epoch}-`));
}

/** What no further try can mend; undefined for what one may. */
export function finalError(error: unknown): JobError | undefined {
  if (error instanceof WorkerFailedError && !error.retry) {
    return { code: error.code, message: error.message, param: null };
  }
  if (error instanceof EngineError) return { code: error.code, message: error.message, param: null };
  if (error instanceof AppError && !error.retry) {
    return { code: error.code, message: error.message, param: error.field ?? null };
  }
  return undefined;
}

function publicMessage(error: unknown): string {
  return error instanceof AppError ? error.message : 'The log has the details.';
}

import type { TrainProgress } from '@tuneloop/engine/types';
import { trainingProgressed } from '@tuneloop/contracts/trainer/events';
import { assertLease, type Lease } from '@tuneloop/runtime/leases';
import { emit } from '@tuneloop/runtime/outbox/emit';
import type { TrainerContext } from '../config.ts';
import { type JobProgress, mayRun } from '../domain/job.ts';
import { insertMetrics } from '../store/curve.ts';
import { findJobById, type JobRow, updateJob } from '../store/jobs.ts';

/** Steps kept between two writes; more would be a loss of the older ones, which no run reaches in a second. */
const MAX_PENDING = 10_000;

/** Collects a run's steps and writes them together: rows of the curve, the job's progress, one event. */
export class ProgressLog {
  readonly #ctx: TrainerContext;
  readonly #lease: Lease;
  readonly #job: JobRow;
  readonly #startedAt = performance.now();
  readonly #firstStep: number;
  #pending: TrainProgress[] = [];
  #evalLoss: number | null = null;

  constructor(ctx: TrainerContext, lease: Lease, job: JobRow) {
    this.#ctx = ctx;
    this.#lease = lease;
    this.#job = job;
    this.#firstStep = job.state_step ?? 0;
  }

  get evalLoss(): number | null {
    return this.#evalLoss;
  }

  add(progress: TrainProgress): void {
    if (this.#pending.length >= MAX_PENDING) this.#pending.shift();
    this.#pending.push(progress);
    if (progress.evalLoss !== undefined) this.#evalLoss = progress.evalLoss;
  }

  /** Writes what has come since the last time. @throws LeaseLostError */
  async flush(): Promise<void> {
    const steps = this.#pending;
    const last = steps.at(-1);
    if (!last) return;
    this.#pending = [];
    const progress = this.#progressAt(last);
    await this.#ctx.pg.withTenant(this.#lease.projectId, async (tx) => {
      await assertLease(tx, 'training_jobs', this.#lease);
      const job = await findJobById(tx, this.#job.id);
      // Nobody hears of progress after the end.
      if (!job || !mayRun(job.status)) return;
      await insertMetrics(tx, this.#job.id, steps.map(metricOf));
      await updateJob(tx, this.#job.id, { progress });
      const { epoch: _epoch, ...data } = progress;
      await emit(tx, trainingProgressed, {
        subject: this.#job.id,
        correlationId: this.#job.correlation_id,
        data: { job_id: this.#job.id, request_id: this.#job.request_id, ...data },
      });
    });
  }

  #progressAt(last: TrainProgress): JobProgress {
    const seconds = (performance.now() - this.#startedAt) / 1000;
    const perStep = seconds / Math.max(1, last.step - this.#firstStep);
    return {
      step: last.step,
      total_steps: last.totalSteps,
      epoch: last.epoch,
      percent: Math.round((1000 * last.step) / last.totalSteps) / 10,
      loss: last.loss,
      eval_loss: this.#evalLoss,
      learning_rate: last.learningRate,
      grad_norm: last.gradNorm,
      tokens_per_second: last.tokensPerSecond,
      seconds_left: (last.totalSteps - last.step) * perStep,
    };
  }
}

function metricOf(progress: TrainProgress) {
  return {
    step: progress.step,
    epoch: progress.epoch,
    loss: progress.loss,
    eval_loss: progress.evalLoss ?? null,
    learning_rate: progress.learningRate,
    grad_norm: progress.gradNorm,
    tokens_per_second: progress.tokensPerSecond,
    reward_margin: progress.rewardMargin ?? null,
    accuracy: progress.accuracy ?? null,
  };
}

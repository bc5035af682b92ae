import { rm } from 'node:fs/promises';
import { describeError } from '@tuneloop/runtime/errors';
import { assertLease, type Lease, LeasedPool, LeaseLostError } from '@tuneloop/runtime/leases';
import type { Job } from '@tuneloop/runtime/service';
import type { TrainerContext } from '../config.ts';
import type { JobError } from '../domain/job.ts';
import { type EvaluationRow, findEvaluationById, updateEvaluation } from '../store/evaluations.ts';
import { lockJobById, releaseLease } from '../store/jobs.ts';
import { failJob } from '../usecases/settleJob.ts';
import { EvaluationRun } from './evaluationRun.ts';
import { backoffMs, giveBack, MAX_ATTEMPTS, retryLater } from './leaseEnd.ts';
import { finalError, HEARTBEAT_MS, LEASE_MS, POLL_MS, workFolder } from './trainingPool.ts';
import { WorkerDiedError } from './workerProcess.ts';

/**
 * Evaluates leased rows: fresh samples of candidate and incumbent, judged and scored, then the gate. Nothing is
 * recorded before the decision, so a run that is cut off is simply done again, with the same seeds.
 */
export class EvaluationPool implements Job {
  readonly name = 'evaluation';
  readonly #ctx: TrainerContext;
  readonly #pool: LeasedPool;

  constructor(ctx: TrainerContext) {
    this.#ctx = ctx;
    this.#pool = new LeasedPool({
      pg: ctx.pg,
      log: ctx.log,
      table: 'evaluations',
      claimFunction: 'claim_evaluations',
      owner: ctx.instance,
      concurrency: ctx.config.EVALUATION_CONCURRENCY,
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

  wake(): void {
    this.#pool.wake();
  }

  async #work(lease: Lease): Promise<void> {
    const folder = await workFolder(this.#ctx, lease);
    try {
      const row = await this.#begin(lease);
      if (row) await new EvaluationRun(this.#ctx, lease, row, folder).run();
      await this.#ctx.pg.withTenant(lease.projectId, (tx) => releaseLease(tx, 'evaluations', lease));
    } catch (error) {
      await this.#settleFailure(lease, error);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }

  async #begin(lease: Lease): Promise<EvaluationRow | null> {
    const { pg, clock } = this.#ctx;
    return pg.withTenant(lease.projectId, async (tx) => {
      await assertLease(tx, 'evaluations', lease);
      const row = await findEvaluationById(tx, lease.id);
      if (!row || (row.status !== 'queued' && row.status !== 'running')) return null;
      await updateEvaluation(tx, row.id, {
        status: 'running',
        attempts: row.attempts + 1,
        started_at: row.started_at ?? clock(),
      });
      return { ...row, attempts: row.attempts + 1 };
    });
  }

  async #settleFailure(lease: Lease, error: unknown): Promise<void> {
    const { pg, log, clock } = this.#ctx;
    if (error instanceof LeaseLostError || lease.signal.aborted) {
      await pg.withTenant(lease.projectId, (tx) => giveBack(tx, 'evaluations', lease));
      return;
    }
    log.warn({ evaluation: lease.id, reason: describeError(error) }, 'an evaluation did not finish');
    await pg.withTenant(lease.projectId, async (tx) => {
      const row = await findEvaluationById(tx, lease.id);
      // The job before its evaluation, as everywhere, so that two transactions never wait for each other.
      const job = row && (await lockJobById(tx, row.job_id));
      await assertLease(tx, 'evaluations', lease);
      if (!row || row.status !== 'running') return releaseLease(tx, 'evaluations', lease);
      const final = finalError(error) ?? exhausted(row);
      if (!final) {
        if (error instanceof WorkerDiedError) return releaseLease(tx, 'evaluations', lease);
        return retryLater(tx, 'evaluations', lease, backoffMs(row.attempts));
      }
      await updateEvaluation(tx, row.id, { status: 'failed', error: final, completed_at: clock() });
      if (job?.status === 'evaluating') {
        await failJob(tx, job, { ...final, message: `The evaluation failed: ${final.message}` }, clock());
      }
      return releaseLease(tx, 'evaluations', lease);
    });
  }
}

function exhausted(row: EvaluationRow): JobError | undefined {
  if (row.attempts < MAX_ATTEMPTS) return undefined;
  return { code: 'trainer.evaluation.exhausted', message: `It was begun ${MAX_ATTEMPTS} times.`, param: null };
}

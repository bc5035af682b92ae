import { trainingRequested } from '@tuneloop/contracts/scheduler/events';
import { createRetrainingRequest } from '@tuneloop/contracts/scheduler/http';
import { describeError } from '@tuneloop/runtime/errors';
import { newId } from '@tuneloop/runtime/ids';
import { emit } from '@tuneloop/runtime/outbox/emit';
import type { Tx } from '@tuneloop/runtime/pg/database';
import { projectSettings } from '@tuneloop/runtime/projects';
import type { Job } from '@tuneloop/runtime/service';
import { Waker } from '@tuneloop/runtime/waker';
import { deadlinesOf, type SchedulerContext } from '../config.ts';
import { nextTick } from '../domain/cron.ts';
import { advanceRun } from '../domain/run.ts';
import {
  insertRequest,
  insertRun,
  lockOpenRun,
  lockPendingRequest,
  markRequest,
  updateRun,
} from '../store/retraining.ts';
import { advanceSchedule, insertTick, lockSchedule } from '../store/schedule.ts';

const POLL_MS = 1_000;
const BATCH = 50;

/**
 * The scheduler's only clockwork. Each round: fires due ticks, starts due requests, fails overdue runs. Any number of
 * schedulers may run it: rows are locked with SKIP LOCKED, a tick is a unique row, an open run is unique per slot.
 *
 *   waiting -> round -> waiting … -> stopped
 */
export class Ticker implements Job {
  readonly name = 'ticker';
  readonly #ctx: SchedulerContext;
  #stopping = false;
  #running: Promise<void> | null = null;
  readonly #waker = new Waker();

  constructor(ctx: SchedulerContext) {
    this.#ctx = ctx;
  }

  start(): void {
    this.#running ??= this.#loop();
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    this.wake();
    await this.#running;
  }

  wake(): void {
    this.#waker.wake();
  }

  /** One round now; for tests that move the clock. */
  async round(): Promise<void> {
    await this.#fireDueTicks();
    await this.#startDueRequests();
    await this.#failOverdueRuns();
  }

  async #loop(): Promise<void> {
    while (!this.#stopping) {
      try {
        await this.round();
      } catch (error) {
        this.#ctx.log.warn({ reason: describeError(error) }, 'scheduler round failed; will retry');
      }
      await this.#waker.wait(POLL_MS);
    }
  }

  async #fireDueTicks(): Promise<void> {
    const { pg, clock } = this.#ctx;
    const due = await pg.withService((tx) =>
      tx.query<{ project_id: string }>('SELECT project_id FROM due_schedules($1, $2)', [clock(), BATCH]),
    );
    for (const { project_id: projectId } of due) {
      await pg.withTenant(projectId, (tx) => this.#fireTick(tx), { actor: 'service:scheduler' });
    }
  }

  /** However many ticks were missed, one request is made: for the earliest; the next is computed from now. */
  async #fireTick(tx: Tx): Promise<void> {
    const now = this.#ctx.clock();
    const schedule = await lockSchedule(tx);
    if (!schedule || schedule.paused || schedule.next_run_at === null || schedule.next_run_at > now) return;
    const requestId = newId();
    if (await insertTick(tx, schedule.next_run_at, requestId)) {
      const spec = createRetrainingRequest.body!.parse({
        reason: `Daily tick of ${schedule.next_run_at.toISOString()}`,
      });
      await insertRequest(tx, { id: requestId, requested_by: 'service:scheduler', source: 'auto_daily', spec });
    }
    await advanceSchedule(tx, now, nextTick(schedule.cron, schedule.time_zone, now));
  }

  async #startDueRequests(): Promise<void> {
    const { pg } = this.#ctx;
    const due = await pg.withService((tx) =>
      tx.query<{ id: string; project_id: string }>('SELECT id, project_id FROM due_requests($1)', [BATCH]),
    );
    for (const request of due) {
      await pg.withTenant(request.project_id, (tx) => this.#startRequest(tx, request.id), {
        actor: 'service:scheduler',
      });
    }
  }

  async #startRequest(tx: Tx, id: string): Promise<void> {
    const request = await lockPendingRequest(tx, id);
    if (!request) return;
    const now = this.#ctx.clock();
    const runId = newId();
    const started = await insertRun(tx, {
      id: runId,
      request_id: id,
      source: request.source,
      slot: request.slot,
      triggered_by: request.requested_by,
      deadline_at: new Date(now.getTime() + deadlinesOf(this.#ctx.config).datasetMs),
    });
    if (!started) return;
    await markRequest(tx, id, 'processing', runId, now);
    const { spec } = request;
    await emit(tx, trainingRequested, {
      subject: runId,
      correlationId: runId,
      data: {
        request_id: id,
        run_id: runId,
        source: request.source,
        priority: request.priority,
        slot: request.slot,
        method: request.method,
        base_model: spec.base_model ?? (await projectSettings(tx, this.#ctx)).model,
        start_from: spec.start_from,
        reference: spec.reference,
        seed: spec.seed ?? null,
        hyperparameters: spec.hyperparameters,
        dataset: { ...spec.dataset, kind: spec.method === 'sft' ? 'sft' : spec.dataset.kind, slot: request.slot },
        requested_by: request.requested_by,
      },
    });
  }

  async #failOverdueRuns(): Promise<void> {
    const { pg, clock, config } = this.#ctx;
    const overdue = await pg.withService((tx) =>
      tx.query<{ id: string; project_id: string }>('SELECT id, project_id FROM overdue_runs($1, $2)', [clock(), BATCH]),
    );
    for (const { id, project_id: projectId } of overdue) {
      await pg.withTenant(projectId, async (tx) => {
        const run = await lockOpenRun(tx, { id });
        if (!run || run.deadline_at === null || run.deadline_at > clock()) return;
        const change = advanceRun(run, { type: 'deadline_passed' }, clock(), deadlinesOf(config));
        if (change) await updateRun(tx, id, change);
        await markRequest(tx, run.request_id, 'completed', id, clock());
      });
    }
  }
}

import { describeError } from '@tuneloop/runtime/errors';
import type { Job } from '@tuneloop/runtime/service';
import type { TrainerContext } from '../config.ts';
import { lockJobById } from '../store/jobs.ts';
import { failJob } from '../usecases/settleJob.ts';

const SWEEP_MS = 15_000;
const BATCH = 50;

/** Fails jobs whose dataset never came, so that none waits for ever. */
export class Sweeper implements Job {
  readonly name = 'sweeper';
  readonly #ctx: TrainerContext;
  #timer: NodeJS.Timeout | undefined;
  #sweeping: Promise<void> = Promise.resolve();

  constructor(ctx: TrainerContext) {
    this.#ctx = ctx;
  }

  start(): void {
    this.#timer = setInterval(() => {
      this.#sweeping = this.#sweeping
        .then(() => this.sweep())
        .catch((error: unknown) => {
          this.#ctx.log.warn({ reason: describeError(error) }, 'sweeping failed; will retry');
        });
    }, SWEEP_MS);
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#sweeping;
  }

  /** One round now. */
  async sweep(): Promise<void> {
    const { pg, clock, config } = this.#ctx;
    const before = new Date(clock().getTime() - config.DATASET_DEADLINE_MS);
    const overdue = await pg.withService((tx) =>
      tx.query<{ id: string; project_id: string }>('SELECT id, project_id FROM overdue_training_jobs($1, $2)', [
        before,
        BATCH,
      ]),
    );
    for (const { id, project_id: projectId } of overdue) {
      await pg.withTenant(projectId, async (tx) => {
        const job = await lockJobById(tx, id);
        if (job?.status !== 'waiting_for_dataset') return;
        const message = 'The dataset was not ready in time.';
        await failJob(tx, job, { code: 'dataset.deadline', message, param: null }, clock());
      });
    }
  }
}

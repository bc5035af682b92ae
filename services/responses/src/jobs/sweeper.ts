import { describeError } from '@tuneloop/runtime/errors';
import type { Job } from '@tuneloop/runtime/service';
import type { ResponsesContext } from '../context.ts';
import { ANSWER_TIMEOUT_MS } from '../egress/chatServer.ts';
import { sweepTraces } from '../store/traces.ts';

const EVERY_MS = 60_000;
/** No generation lasts as long: an older open trace belongs to a process that died. */
const STALE_SECONDS = (3 * ANSWER_TIMEOUT_MS) / 1000;
const MAX_ROWS = 1_000;

/** Marks generations that were cut off by the death of their process. */
export function createSweeper(ctx: ResponsesContext): Job {
  let timer: NodeJS.Timeout | undefined;
  let running: Promise<void> = Promise.resolve();
  const sweep = async (): Promise<void> => {
    try {
      const swept = await ctx.pg.withService((tx) => sweepTraces(tx, STALE_SECONDS, MAX_ROWS));
      if (swept > 0) ctx.log.warn({ traces: swept }, 'generations were cut off');
    } catch (error) {
      ctx.log.warn({ reason: describeError(error) }, 'sweeping traces failed; will retry');
    }
  };
  return {
    name: 'trace sweeper',
    start() {
      running = sweep();
      timer = setInterval(() => {
        running = running.then(sweep);
      }, EVERY_MS);
    },
    async stop() {
      clearInterval(timer);
      await running;
    },
  };
}

import { registerFile } from '@tuneloop/contracts/datasets/internal';
import type { Lease } from '@tuneloop/runtime/leases';
import type { TrainerContext } from '../config.ts';
import { listMetrics } from '../store/curve.ts';
import type { JobRow } from '../store/jobs.ts';

const PAGE = 5_000;
const HEADER = 'step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy\n';

/** The curve as OpenAI's result file has it, listed under /v1/files. Returns the file's id. */
export async function registerResultFile(ctx: TrainerContext, lease: Lease, job: JobRow): Promise<string> {
  let csv = HEADER;
  for (let after = 0; ; ) {
    const rows = await ctx.pg.withTenant(lease.projectId, (tx) => listMetrics(tx, job.id, PAGE, after));
    for (const { step, loss, accuracy, eval_loss } of rows) {
      csv += `${step},${loss},${accuracy ?? ''},${eval_loss ?? ''},\n`;
      after = step;
    }
    if (rows.length < PAGE) break;
  }
  const blob = await ctx.blobs.put(lease.projectId, Buffer.from(csv), { contentType: 'text/csv' });
  const { id } = await ctx.callers.call(
    registerFile,
    {
      body: {
        filename: 'step_metrics.csv',
        purpose: 'fine-tune-results',
        storage_key: blob.key,
        bytes: blob.size,
      },
    },
    {
      projectId: lease.projectId,
      correlationId: job.correlation_id,
      idempotencyKey: `result-${job.id}-${blob.sha256.slice(0, 16)}`,
    },
  );
  return id;
}

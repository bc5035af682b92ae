import {
  cancelFineTuningJob,
  createFineTuningJob,
  listFineTuningCheckpoints,
  listFineTuningEvents,
  listFineTuningJobs,
  pauseFineTuningJob,
  resumeFineTuningJob,
  retrieveFineTuningJob,
} from '@tuneloop/contracts/trainer/openai';
import { AppError, badRequest } from '@tuneloop/runtime/errors';
import type { HttpApp } from '@tuneloop/runtime/http/app';
import { mountRoute } from '@tuneloop/runtime/http/mountRoute';
import type { Tx } from '@tuneloop/runtime/pg/database';
import type { TrainerContext } from '../config.ts';
import type { WakeUp } from '../events/wakeUp.ts';
import { idAfter, jobIdOf, openAiStatus } from '../domain/fineTuningJob.ts';
import { mayPause } from '../domain/job.ts';
import { findCheckpointByJob, modelNamesOfJobs } from '../store/checkpoints.ts';
import { lastMetrics, listJobEvents } from '../store/curve.ts';
import { findJobById, type JobFilter, type JobRow, listJobs, lockJobById } from '../store/jobs.ts';
import { createFineTuningJobOf, findRetried, prepareFineTuningJob } from '../usecases/createFineTuningJob.ts';
import { pauseJob, resumeJob } from '../usecases/pauseJob.ts';
import { cancelJob } from '../usecases/settleJob.ts';
import {
  CHECKPOINT_PREFIX,
  EVENT_PREFIX,
  fineTuningCheckpointBody,
  fineTuningEventBody,
  fineTuningJobBody,
} from './fineTuningMapping.ts';

/** `/v1/fine_tuning/jobs`, for code written for OpenAI's API. */
export function mountFineTuningJobs(app: HttpApp, ctx: TrainerContext, wake: WakeUp): void {
  mountRoute(
    app,
    ctx,
    createFineTuningJob,
    async ({ body, auth, raw, signal, idempotent }) => {
      const prepared = await prepareFineTuningJob(ctx, { projectId: auth.projectId, actor: auth.actor }, body);
      const retryCount = Number(raw.headers['x-stainless-retry-count'] ?? 0) || 0;
      return idempotent(async (tx) => {
        const earlier = await findRetried(tx, ctx, prepared, retryCount);
        if (earlier) return bodyOf(tx, earlier);
        // A client that has gone will ask again: only one of its requests may make a job.
        signal.throwIfAborted();
        const job = await createFineTuningJobOf(tx, prepared, auth.actor);
        tx.afterCommit(() => wake.wakeTraining());
        return bodyOf(tx, job);
      });
    },
    { transaction: false },
  );

  mountRoute(app, ctx, listFineTuningJobs, async ({ query, tx }) => {
    const { after, limit, ...others } = query;
    const filter: JobFilter = { source: 'openai', ...metadataFilter(others) };
    const rows = await listJobs(tx, filter, limit + 1, cursorOf(after, 'ftjob-'));
    const shown = rows.slice(0, limit);
    const names = await modelNamesOfJobs(
      tx,
      shown.map((row) => row.id),
    );
    return {
      object: 'list' as const,
      data: shown.map((row) => fineTuningJobBody(row, names.get(row.id) ?? null)),
      has_more: rows.length > limit,
    };
  });

  mountRoute(app, ctx, retrieveFineTuningJob, async ({ params, tx }) => bodyOf(tx, await jobNamed(tx, params.id)));

  mountRoute(app, ctx, cancelFineTuningJob, async ({ params, auth, tx }) => {
    const job = await jobNamed(tx, params.id, 'lock');
    const status = openAiStatus(job.status);
    // 400, since SDKs try a 409 again.
    if (status === 'succeeded' || status === 'failed' || status === 'cancelled') throw wrongStatus(job, 'cancelled');
    tx.afterCommit(() => wake.wakeTraining());
    return bodyOf(tx, await cancelJob(tx, job, auth.actor, ctx.clock()));
  });

  mountRoute(app, ctx, pauseFineTuningJob, async ({ params, tx }) => {
    const job = await jobNamed(tx, params.id, 'lock');
    if (!mayPause(job.status)) throw wrongStatus(job, 'paused');
    tx.afterCommit(() => wake.wakeTraining());
    return bodyOf(tx, await pauseJob(tx, job));
  });

  mountRoute(app, ctx, resumeFineTuningJob, async ({ params, tx }) => {
    const job = await jobNamed(tx, params.id, 'lock');
    if (job.status !== 'paused') throw wrongStatus(job, 'resumed');
    tx.afterCommit(() => wake.wakeTraining());
    return bodyOf(tx, await resumeJob(tx, job));
  });

  mountRoute(app, ctx, listFineTuningEvents, async ({ params, query, tx }) => {
    const job = await jobNamed(tx, params.id);
    const rows = await listJobEvents(tx, job.id, query.limit + 1, cursorOf(query.after, EVENT_PREFIX));
    return {
      object: 'list' as const,
      data: rows.slice(0, query.limit).map(fineTuningEventBody),
      has_more: rows.length > query.limit,
    };
  });

  mountRoute(app, ctx, listFineTuningCheckpoints, async ({ params, query, tx }) => {
    const job = await jobNamed(tx, params.id);
    const after = cursorOf(query.after, CHECKPOINT_PREFIX);
    const row = await findCheckpointByJob(tx, job.id);
    const data = row && after === undefined ? [fineTuningCheckpointBody(row, await lastMetrics(tx, job.id))] : [];
    return {
      object: 'list' as const,
      data,
      has_more: false,
      first_id: data[0]?.id ?? null,
      last_id: data.at(-1)?.id ?? null,
    };
  });
}

async function bodyOf(tx: Tx, job: JobRow) {
  const names = await modelNamesOfJobs(tx, [job.id]);
  return fineTuningJobBody(job, names.get(job.id) ?? null);
}

async function jobNamed(tx: Tx, name: string, lock?: 'lock'): Promise<JobRow> {
  const id = jobIdOf(name);
  const row = id === undefined ? undefined : await (lock ? lockJobById(tx, id) : findJobById(tx, id));
  if (row?.source === 'openai') return row;
  throw new AppError({
    code: 'fine_tune_not_found',
    status: 404,
    message: `Could not find fine tune: ${name}`,
    retry: false,
    field: 'fine_tune_id',
  });
}

function wrongStatus(job: JobRow, what: string): AppError {
  return badRequest(
    'invalid_status',
    `The job is ${openAiStatus(job.status)}; it cannot be ${what} now.`,
    'fine_tune_id',
  );
}

function cursorOf(after: string | undefined, prefix: string): string | undefined {
  if (after === undefined) return undefined;
  const id = idAfter(prefix, after);
  if (id === undefined) throw badRequest('invalid_cursor', `after must be an id that begins with ${prefix}`, 'after');
  return id;
}

const METADATA_KEY = /^metadata\[(.{1,64})\]$/;

/** `metadata[key]=value` for each pair, or `metadata=null` for jobs without any. */
function metadataFilter(query: Readonly<Record<string, unknown>>): Pick<JobFilter, 'metadata'> {
  if (query.metadata === 'null') return { metadata: null };
  const pairs: Record<string, string> = {};
  for (const [name, value] of Object.entries(query)) {
    const key = METADATA_KEY.exec(name)?.[1];
    if (key !== undefined && typeof value === 'string') pairs[key] = value;
  }
  return Object.keys(pairs).length === 0 ? {} : { metadata: pairs };
}

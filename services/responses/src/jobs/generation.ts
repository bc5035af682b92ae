import { AppError, describeError } from '@tuneloop/runtime/errors';
import { deterministicId, newId } from '@tuneloop/runtime/ids';
import { assertLease, type Lease, LeasedPool, LeaseLostError } from '@tuneloop/runtime/leases';
import { toAppError } from '@tuneloop/runtime/http/errorMapping';
import type { Tx } from '@tuneloop/runtime/pg/database';
import type { ProjectSettings } from '@tuneloop/runtime/projects';
import { immutableName, type ModelTarget } from '../domain/target.ts';
import type { ChatDependencies } from '../egress/chatCompletion.ts';
import { endGeneration, Meter } from '../egress/generation.ts';
import type { ChatBody } from '../egress/providers.ts';
import { type Cause, recordResponses } from '../records.ts';
import * as jobs from '../store/generationJobs.ts';
import { findPrompt, type PromptRow, settlePrompt } from '../store/prompts.ts';
import type { NewResponse } from '../store/responses.ts';
import { openTrace } from '../store/traces.ts';

const LEASE_MS = 15_000;
const HEARTBEAT_MS = 4_000;
const POLL_MS = 500;
/** Tries before a prompt is given up, and the waits between them: about five minutes in all. */
const MAX_ATTEMPTS = 10;
const FIRST_WAIT_MS = 500;
const MAX_WAIT_MS = 60_000;

interface Plan {
  readonly prompt: PromptRow;
  readonly settings: ProjectSettings;
  readonly target: ModelTarget;
  readonly traceId: string;
  /** Index of the first candidate that is missing; they are stored all or none, so the rest is missing too. */
  readonly from: number;
}

/**
 * Works on prompts whose candidates are to be generated, several at a time; the serve process decodes them together.
 *
 * One prompt: read what is missing and open a trace -> ask the model -> answers, events, trace and the job's end in one
 * transaction that names the lease's epoch. A crash before that transaction leaves the prompt as it was; after it there
 * is no job left. Ids and seeds depend on the prompt and the index alone, so nothing can be there twice.
 */
export function createGenerationPool(deps: ChatDependencies): LeasedPool {
  const { ctx } = deps;
  return new LeasedPool({
    pg: ctx.pg,
    log: ctx.log,
    table: jobs.GENERATION_JOBS,
    claimFunction: jobs.CLAIM_GENERATION_JOBS,
    owner: ctx.instance,
    concurrency: ctx.config.GENERATION_CONCURRENCY,
    leaseMs: LEASE_MS,
    heartbeatMs: HEARTBEAT_MS,
    pollMs: POLL_MS,
    work: (lease) => generateCandidates(deps, lease),
  });
}

async function generateCandidates(deps: ChatDependencies, lease: Lease): Promise<void> {
  const { ctx, providers } = deps;
  let plan: Plan | undefined;
  const meter = new Meter();
  try {
    plan = await ctx.pg.withTenant(lease.projectId, (tx) => makePlan(deps, tx, lease));
    if (!plan) return;
    const { prompt, target, from } = plan;
    const call = { projectId: lease.projectId, signal: lease.signal };
    const answer = await providers.complete(target, chatBody(plan), call);
    meter.firstToken();
    meter.usage(answer.usage);
    // Short when the server gives fewer choices than asked: the job then stays for the rest.
    const texts = answer.choices.slice(0, prompt.candidates - from).map((choice) => choice.message.content ?? '');
    await ctx.pg.withTenant(lease.projectId, (tx) => store(deps, tx, lease, plan!, texts, meter));
    ctx.faults.hit('generation.after_store');
  } catch (error) {
    await settleFailure(deps, lease, plan, meter, error);
  }
}

/** Undefined when there is nothing left to do. */
async function makePlan(deps: ChatDependencies, tx: Tx, lease: Lease): Promise<Plan | undefined> {
  const { ctx, router } = deps;
  await assertLease(tx, jobs.GENERATION_JOBS, lease);
  const prompt = await findPrompt(tx, lease.id);
  const from = (await jobs.listCandidateIndexes(tx, lease.id)).length;
  if (!prompt || from >= prompt.candidates) {
    if (prompt) await settlePrompt(tx, lease.id, 'done', null);
    await jobs.deleteGenerationJob(tx, lease.id);
    return undefined;
  }
  const { target, settings } = await router.resolveProjectModel(tx, prompt.slot, prompt.id);
  const traceId = newId();
  await openTrace(tx, {
    id: traceId,
    kind: 'candidates',
    instance: ctx.instance,
    target,
    userId: prompt.user_id,
    promptId: prompt.id,
    promptVersion: prompt.template_version,
  });
  return { prompt, settings, target, traceId, from };
}

function messagesOf(prompt: PromptRow): ChatBody['messages'] {
  const system = prompt.system === null ? [] : [{ role: 'system' as const, content: prompt.system }];
  return [...system, { role: 'user', content: prompt.text }];
}

function chatBody({ prompt, settings, from }: Plan): ChatBody {
  return {
    model: settings.model,
    messages: messagesOf(prompt),
    n: prompt.candidates - from,
    // Choice i is sampled with seed + i, so each candidate keeps its own seed whichever attempt makes it.
    seed: prompt.seed + from,
    temperature: settings.temperature,
    max_tokens: settings.max_tokens,
  };
}

function causeOf(prompt: PromptRow): Cause {
  return { correlationId: prompt.correlation_id, causationId: prompt.causation_id };
}

async function store(
  deps: ChatDependencies,
  tx: Tx,
  lease: Lease,
  plan: Plan,
  texts: readonly string[],
  meter: Meter,
): Promise<void> {
  const { prompt, target, traceId, from } = plan;
  await assertLease(tx, jobs.GENERATION_JOBS, lease);
  await recordResponses(
    tx,
    texts.map((text, i) => candidateRow(tx, plan, from + i, text)),
    causeOf(prompt),
  );
  await endGeneration(tx, deps.providers, { traceId, target, meter, status: 'done', cause: causeOf(prompt) });
  if (from + texts.length >= prompt.candidates) {
    await settlePrompt(tx, prompt.id, 'done', null);
    await jobs.deleteGenerationJob(tx, prompt.id);
  } else {
    await jobs.postponeGenerationJob(tx, prompt.id, FIRST_WAIT_MS);
  }
  deps.ctx.faults.hit('generation.before_store');
}

function candidateRow(tx: Tx, plan: Plan, index: number, text: string): NewResponse {
  const { prompt, target, traceId } = plan;
  return {
    id: deterministicId('candidate', tx.projectId!, prompt.id, String(index)),
    user_id: prompt.user_id,
    prompt_id: prompt.id,
    prompt: prompt.text,
    messages: messagesOf(prompt),
    response_text: text,
    model_id: immutableName(target),
    checkpoint_id: target.checkpointId,
    slot: target.slot,
    completion_id: null,
    choice: index,
    image_id: prompt.image_id,
    facts: prompt.facts,
    group_key: prompt.group_key,
    category: prompt.category,
    brand: prompt.brand,
    task: prompt.task,
    session_id: prompt.session_id,
    purpose: 'candidate',
    metadata: {},
    trace_id: traceId,
  };
}

/** A passing failure is tried again later, a final one ends the prompt, and a lost lease leaves it to its new owner. */
async function settleFailure(
  deps: ChatDependencies,
  lease: Lease,
  plan: Plan | undefined,
  meter: Meter,
  error: unknown,
): Promise<void> {
  const { ctx, providers } = deps;
  const stopped = lease.signal.aborted || error instanceof LeaseLostError;
  await ctx.pg.withTenant(lease.projectId, async (tx) => {
    if (plan) {
      const status = stopped ? 'cut_off' : 'failed';
      const { traceId, target, prompt } = plan;
      await endGeneration(tx, providers, { traceId, target, meter, status, error, cause: causeOf(prompt) });
    }
    if (stopped) {
      await jobs.releaseGenerationJob(tx, lease.id, lease.epoch);
      return;
    }
    await assertLease(tx, jobs.GENERATION_JOBS, lease);
    const attempts = (await jobs.findJobAttempts(tx, lease.id)) ?? 0;
    const failure = error instanceof AppError ? error : toAppError(error);
    if (failure.retry && attempts + 1 < MAX_ATTEMPTS) {
      const waitMs = Math.min(MAX_WAIT_MS, FIRST_WAIT_MS * 2 ** attempts);
      ctx.log.warn(
        { prompt: lease.id, attempts, waitMs, reason: describeError(error) },
        'generation failed; will retry',
      );
      await jobs.postponeGenerationJob(tx, lease.id, waitMs);
      return;
    }
    ctx.log.error({ prompt: lease.id, attempts, reason: describeError(error) }, 'generation of candidates given up');
    await settlePrompt(tx, lease.id, 'failed', failure.message);
    await jobs.deleteGenerationJob(tx, lease.id);
  });
}

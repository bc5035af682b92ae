import { createHash } from 'node:crypto';
import { retrieveFile } from '@tuneloop/contracts/datasets/files';
import { MAX_PAGE } from '@tuneloop/contracts/common';
import { type aliasTarget, listModelAliases } from '@tuneloop/contracts/responses/http';
import type { FineTuningJobRequest } from '@tuneloop/contracts/trainer/openai';
import { AppError, badRequest } from '@tuneloop/runtime/errors';
import type { Tx } from '@tuneloop/runtime/pg/database';
import { projectSettings } from '@tuneloop/runtime/projects';
import type { z } from 'zod';
import { baseFolder } from '../baseModels.ts';
import type { TrainerContext } from '../config.ts';
import { ownHyperparameters, requestedMethod } from '../domain/fineTuningJob.ts';
import type { LocalMethod } from '../domain/job.ts';
import { findCheckpointById, findCheckpointByName } from '../store/checkpoints.ts';
import { insertMessage } from '../store/curve.ts';
import { findJobByRequestHash, type JobRow } from '../store/jobs.ts';
import { createJob } from './createJob.ts';

/** An SDK has given up long before. */
const RETRY_WINDOW_MS = 15 * 60_000;
const SLOT = 'default';
const MAX_ALIAS_PAGES = 20;

/** A request that has been looked over: what to train, on which files. */
export interface PreparedJob {
  readonly request: FineTuningJobRequest;
  readonly baseModel: string;
  readonly startFrom: string;
  readonly method: LocalMethod;
  readonly shown: ReturnType<typeof requestedMethod>['hyperparameters'];
  readonly hash: string;
}

/**
 * Checks what can be checked at once, as OpenAI does: the method, the model, that the files are there. What is in the
 * files is validated afterwards, and told as the job's error.
 * @throws AppError 400 or 404 naming the parameter
 */
export async function prepareFineTuningJob(
  ctx: TrainerContext,
  call: { readonly projectId: string; readonly actor: string },
  request: FineTuningJobRequest,
): Promise<PreparedJob> {
  const { type, hyperparameters } = requestedMethod(request);
  if (type === 'reinforcement') {
    throw badRequest(
      'unsupported_method',
      'The method reinforcement is not available on the local backend. Use supervised or dpo.',
      'method.type',
    );
  }
  for (const { type: kind } of request.integrations ?? []) {
    if (kind !== 'wandb')
      throw badRequest('unsupported_integration', `There is no integration ${kind}.`, 'integrations');
  }
  const { baseModel, startFrom } = await resolveModel(ctx, call, request.model);
  await requireFile(ctx, call, request.training_file, 'training_file');
  if (request.validation_file != null) await requireFile(ctx, call, request.validation_file, 'validation_file');
  return {
    request,
    baseModel,
    startFrom,
    method: type === 'dpo' ? 'dpo' : 'sft',
    shown: hyperparameters,
    hash: createHash('sha256')
      .update(JSON.stringify([call.actor, sortedEntries(request)]))
      .digest('hex'),
  };
}

function sortedEntries(value: object): [string, unknown][] {
  return Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1));
}

/** A base of ours, an `ft:` model to go on from, or an alias of the project for a base. */
async function resolveModel(
  ctx: TrainerContext,
  call: { readonly projectId: string; readonly actor: string },
  model: string,
): Promise<{ baseModel: string; startFrom: string }> {
  if (ctx.config.BASE_MODELS.has(model)) return { baseModel: model, startFrom: 'base' };
  const checkpoint = await ctx.pg.withTenant(call.projectId, (tx) => findCheckpointByName(tx, model));
  if (checkpoint?.base_model) {
    baseFolder(ctx.config, checkpoint.base_model);
    return { baseModel: checkpoint.base_model, startFrom: checkpoint.id };
  }
  const aliased = await resolveAlias(ctx, call, model);
  if (aliased) return aliased;
  const known = [...ctx.config.BASE_MODELS.keys()].join(', ');
  throw new AppError({
    code: 'model_not_found',
    status: 404,
    message: `The model ${model} cannot be fine-tuned here. Use one of: ${known || 'none is configured'}; an ft: model of this project; or map the name to a base (PUT /api/v1/model-aliases).`,
    retry: false,
    field: 'model',
  });
}

/** What an alias of the project stands for, where that can be trained here. */
async function resolveAlias(
  ctx: TrainerContext,
  call: { readonly projectId: string; readonly actor: string },
  name: string,
): Promise<{ baseModel: string; startFrom: string } | undefined> {
  const target = await findAlias(ctx, call, name);
  if (!target || target.kind === 'upstream') return undefined;
  return ctx.pg.withTenant(call.projectId, async (tx) => {
    if (target.kind === 'checkpoint') {
      const checkpoint = await findCheckpointById(tx, target.checkpoint_id);
      const baseModel = checkpoint?.base_model ?? null;
      if (!checkpoint || baseModel === null || !ctx.config.BASE_MODELS.has(baseModel)) return undefined;
      return { baseModel, startFrom: checkpoint.id };
    }
    // A slot's own adapters are made from the project's base, each from all data so far.
    const baseModel = target.kind === 'base' ? target.model : (await projectSettings(tx, ctx)).model;
    return ctx.config.BASE_MODELS.has(baseModel) ? { baseModel, startFrom: 'base' } : undefined;
  });
}

async function findAlias(
  ctx: TrainerContext,
  call: { readonly projectId: string; readonly actor: string },
  name: string,
): Promise<z.output<typeof aliasTarget> | undefined> {
  let cursor: string | undefined;
  for (let page = 0; page < MAX_ALIAS_PAGES; page++) {
    const query = { limit: MAX_PAGE, ...(cursor === undefined ? {} : { cursor }) };
    const answer = await ctx.callers.call(listModelAliases, { query }, call);
    const found = answer.data.find((alias) => alias.alias === name);
    if (found || answer.next_cursor === null) return found?.target;
    cursor = answer.next_cursor;
  }
  return undefined;
}

async function requireFile(
  ctx: TrainerContext,
  call: { readonly projectId: string; readonly actor: string },
  fileId: string,
  param: 'training_file' | 'validation_file',
): Promise<void> {
  try {
    await ctx.callers.call(retrieveFile, { params: { file_id: fileId } }, call);
  } catch (error) {
    if (!(error instanceof AppError) || error.status >= 500) throw error;
    throw new AppError({
      code: `invalid_${param}`,
      status: 400,
      message: `There is no file ${fileId}. Upload it with purpose fine-tune first.`,
      retry: false,
      field: param,
      cause: error,
    });
  }
}

/** The job that an earlier try of the same request made; SDKs say in a header that they try again. */
export async function findRetried(
  tx: Tx,
  ctx: TrainerContext,
  prepared: PreparedJob,
  retryCount: number,
): Promise<JobRow | undefined> {
  // The try before may be in its transaction now: wait for it.
  await tx.query('SELECT pg_advisory_xact_lock(hashtextextended($1, 0))', [
    `fine-tuning ${tx.projectId} ${prepared.hash}`,
  ]);
  if (retryCount === 0) return undefined;
  return findJobByRequestHash(tx, prepared.hash, new Date(ctx.clock().getTime() - RETRY_WINDOW_MS));
}

export async function createFineTuningJobOf(tx: Tx, prepared: PreparedJob, actor: string): Promise<JobRow> {
  const { request, baseModel, method } = prepared;
  const job = await createJob(tx, {
    source: 'openai',
    status: 'validating',
    method,
    slot: SLOT,
    base_model: baseModel,
    start_from: prepared.startFrom,
    reference: prepared.startFrom,
    seed: request.seed ?? null,
    suffix: request.suffix ?? null,
    // As with OpenAI, a finished job is a model of its own name; it takes nobody's place unasked.
    evaluate: false,
    hyperparameters: ownHyperparameters(baseModel, method, prepared.shown),
    request_hash: prepared.hash,
    requested_by: actor,
    openai: {
      training_file: request.training_file,
      validation_file: request.validation_file ?? null,
      model: request.model,
      method: method === 'dpo' ? 'dpo' : 'supervised',
      hyperparameters: prepared.shown,
      metadata: request.metadata ?? null,
      integrations: request.integrations ?? null,
    },
  });
  await insertMessage(tx, job!.id, 'info', `Validating training file: ${request.training_file}`);
  if ((request.integrations ?? []).length > 0) {
    await insertMessage(tx, job!.id, 'warn', 'The integration wandb was accepted, but nothing is sent to it.');
  }
  return job!;
}

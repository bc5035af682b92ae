import { setTimeout as delay } from 'node:timers/promises';
import type { generate, generateTarget } from '@tuneloop/contracts/responses/internal';
import type { ChatCompletion } from '@tuneloop/contracts/responses/openai';
import type { Auth } from '@tuneloop/runtime/auth/auth';
import { notFound } from '@tuneloop/runtime/errors';
import { newId } from '@tuneloop/runtime/ids';
import type { z } from 'zod';
import type { ModelTarget } from '../domain/target.ts';
import { openTrace } from '../store/traces.ts';
import type { ChatDependencies } from './chatCompletion.ts';
import type { ChatCall } from './chatServer.ts';
import { endGeneration, isPassing, Meter } from './generation.ts';
import type { ChatBody, Providers } from './providers.ts';

/** Items of one call that are asked for at a time; the serve process batches them. */
const ITEMS_IN_FLIGHT = 16;
/** A full queue or a restart of the serve process passes within a few seconds. */
const ATTEMPTS = 6;
const FIRST_BACKOFF_MS = 200;
const MAX_NAMES_SHOWN = 50;

type GenerateBody = z.output<NonNullable<typeof generate.body>>;
type GeneratedItem = z.output<typeof generate.response>['items'][number];

/** A base that the local engine holds is asked there; any other name is the upstream's. */
export function toTarget(providers: Providers, target: z.output<typeof generateTarget>): ModelTarget {
  const { base_model: model, checkpoint_id: checkpointId, storage_key: storageKey } = target;
  const local = checkpointId !== null || providers.localModels.has(model) || !providers.upstreamModels.has(model);
  return { provider: local ? 'local' : 'upstream', model, checkpointId, storageKey, slot: 'default' };
}

/** A base by a name that none of the servers has is told at once; while no list could be had, it is asked for all the same. */
async function requireModel(
  providers: Providers,
  { base_model: model, checkpoint_id: checkpointId }: z.output<typeof generateTarget>,
  projectId: string,
): Promise<void> {
  const { localModels, upstreamModels } = providers;
  if (checkpointId !== null || localModels.has(model) || upstreamModels.has(model)) return;
  const known = [...(await localModels.refresh(projectId)), ...(await upstreamModels.refresh(projectId))];
  if (known.length === 0 || known.some(({ id }) => id === model)) return;
  const shown = known.slice(0, MAX_NAMES_SHOWN).map(({ id }) => id);
  throw notFound('responses.model.not_found', `There is no base model ${model}. There is: ${shown.join(', ')}.`);
}

/** Answers to all items; the whole call fails when one item cannot be answered. One trace, no responses. */
export async function generateItems(
  deps: ChatDependencies,
  request: { body: GenerateBody; auth: Auth; signal: AbortSignal; correlationId: string | undefined },
): Promise<GeneratedItem[]> {
  const { ctx, providers } = deps;
  const { body, auth } = request;
  await requireModel(providers, body.target, auth.projectId);
  const target = toTarget(providers, body.target);
  const traceId = newId();
  const meter = new Meter();
  await ctx.pg.withTenant(auth.projectId, (tx) =>
    openTrace(tx, { id: traceId, kind: 'generate', instance: ctx.instance, target, userId: null }),
  );
  const end = async (status: 'done' | 'failed', error?: unknown): Promise<void> =>
    ctx.pg.withTenant(auth.projectId, (tx) =>
      endGeneration(tx, providers, {
        traceId,
        target,
        meter,
        status,
        ...(error === undefined ? {} : { error }),
        cause: { correlationId: request.correlationId },
      }),
    );
  const stop = new AbortController();
  const signal = AbortSignal.any([request.signal, stop.signal]);
  try {
    const items = await inParallel(body.items, ITEMS_IN_FLIGHT, async (item): Promise<GeneratedItem> => {
      const chat: ChatBody = {
        model: body.target.base_model,
        messages: item.messages,
        n: item.n,
        seed: item.seed,
        temperature: body.temperature,
        top_p: body.top_p,
        max_tokens: body.max_tokens,
        ...(body.response_format === undefined ? {} : { response_format: body.response_format }),
      };
      const answer = await patiently(deps, target, chat, { projectId: auth.projectId, signal });
      meter.usage(answer.usage);
      return { key: item.key, choices: toChoices(answer) };
    });
    await end('done');
    return items;
  } catch (error) {
    stop.abort();
    await end('failed', error);
    throw error;
  }
}

function toChoices(answer: ChatCompletion): GeneratedItem['choices'] {
  // The serve process counts each choice; an upstream tells the tokens of all together, which are shared out evenly.
  const share = Math.round((answer.usage?.completion_tokens ?? 0) / Math.max(1, answer.choices.length));
  return answer.choices.map((choice) => ({
    text: choice.message.content ?? '',
    finish_reason: choice.finish_reason ?? 'stop',
    completion_tokens: typeof choice.completion_tokens === 'number' ? choice.completion_tokens : share,
  }));
}

/** One answer, tried again while the failure is a passing one. */
export async function patiently(
  deps: Pick<ChatDependencies, 'providers'>,
  target: ModelTarget,
  body: ChatBody,
  call: ChatCall,
): Promise<ChatCompletion> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await deps.providers.complete(target, body, call);
    } catch (error) {
      if (attempt >= ATTEMPTS || call.signal?.aborted || !isPassing(error)) throw error;
    }
    await delay(FIRST_BACKOFF_MS * 2 ** (attempt - 1), undefined, call.signal ? { signal: call.signal } : {});
  }
}

/** Maps with at most `limit` at work; results in the order of the inputs. */
async function inParallel<T, R>(inputs: readonly T[], limit: number, work: (input: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let i = next++; i < inputs.length; i = next++) results[i] = await work(inputs[i]!);
  };
  await Promise.all(Array.from({ length: Math.min(limit, inputs.length) }, worker));
  return results;
}

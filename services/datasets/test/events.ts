import type { EventContract } from '@tuneloop/contracts/event';
import {
  preferenceRecorded,
  preferenceRetracted,
  rewardRecorded,
  rewardRetracted,
} from '@tuneloop/contracts/rewards/events';
import {
  responseCreated,
  responseDeleted,
  type ResponseRecord,
  responseUpdated,
} from '@tuneloop/contracts/responses/events';
import { trainingRequested } from '@tuneloop/contracts/scheduler/events';
import { deterministicId, newId } from '@tuneloop/runtime/ids';
import { eventually } from '@tuneloop/testkit/eventually';
import type { TestSystem } from '@tuneloop/testkit/service';
import type { z } from 'zod';

/** An event as a test hands it about: contract and body. */
export interface TestEvent {
  readonly contract: EventContract;
  readonly subject: string;
  readonly data: unknown;
}

const CREATED_AT = '2026-05-01T10:00:00.000Z';

/** An id that depends on its name only, so that two runs of a test make the same data. */
export function idOf(name: string): string {
  return deterministicId('datasets-test', name);
}

export function responseRecord(name: string, fields: Partial<ResponseRecord> = {}): ResponseRecord {
  return {
    response_id: idOf(name),
    version: 1,
    user_id: 'anonymous',
    prompt_id: null,
    prompt: 'Describe it.',
    messages: null,
    response_text: `Answer ${name}.`,
    model_id: 'nano',
    checkpoint_id: null,
    slot: 'default',
    completion_id: null,
    choice: null,
    image_id: null,
    facts: null,
    group_key: 'group',
    category: null,
    brand: null,
    task: null,
    session_id: null,
    purpose: 'candidate',
    metadata: {},
    created_at: CREATED_AT,
    ...fields,
  };
}

export function created(record: ResponseRecord): TestEvent {
  return { contract: responseCreated, subject: record.response_id, data: record };
}

export function updated(record: ResponseRecord): TestEvent {
  return { contract: responseUpdated, subject: record.response_id, data: record };
}

export function deleted(name: string, version = 2): TestEvent {
  const id = idOf(name);
  return { contract: responseDeleted, subject: id, data: { response_id: id, version, reason: 'deleted' } };
}

export function preference(
  name: string,
  chosen: string,
  rejected: string,
  fields: Partial<z.input<typeof preferenceRecorded.schema>> = {},
): TestEvent {
  const id = idOf(name);
  return {
    contract: preferenceRecorded,
    subject: id,
    data: {
      preference_id: id,
      chosen_response_id: idOf(chosen),
      rejected_response_id: idOf(rejected),
      chosen_text: null,
      source: 'ab',
      kind: 'ab',
      margin: null,
      feedback_ids: [idOf(`feedback ${name}`)],
      rater: 'ann',
      synthetic: false,
      version: 1,
      created_at: CREATED_AT,
      ...fields,
    },
  };
}

export function preferenceGone(name: string, version = 2): TestEvent {
  const id = idOf(name);
  return { contract: preferenceRetracted, subject: id, data: { preference_id: id, version, reason: 'superseded' } };
}

export function reward(
  name: string,
  response: string,
  score: number,
  fields: Partial<z.input<typeof rewardRecorded.schema>> = {},
): TestEvent {
  const id = idOf(name);
  return {
    contract: rewardRecorded,
    subject: id,
    data: {
      reward_id: id,
      response_id: idOf(response),
      feedback_id: idOf(`feedback ${name}`),
      kind: 'score',
      score,
      stars: null,
      rater: 'ann',
      synthetic: false,
      detail: null,
      version: 1,
      created_at: CREATED_AT,
      ...fields,
    },
  };
}

export function rewardGone(name: string, response: string, version = 2): TestEvent {
  const id = idOf(name);
  return {
    contract: rewardRetracted,
    subject: id,
    data: { reward_id: id, response_id: idOf(response), version, reason: 'superseded' },
  };
}

/** `count` prompts in groups of their own, each with two answers and a preference of the first. */
export function pairs(count: number, prefix = 'p'): TestEvent[] {
  return Array.from({ length: count }, (_, index) => pair(`${prefix}${index}`)).flat();
}

export function pair(name: string, fields: Partial<ResponseRecord> = {}): TestEvent[] {
  const shared = {
    prompt: `Prompt ${name}`,
    messages: [{ role: 'user' as const, content: `Prompt ${name}` }],
    group_key: `group:${name}`,
    ...fields,
  };
  return [
    created(responseRecord(`${name}/good`, shared)),
    created(responseRecord(`${name}/bad`, shared)),
    preference(`${name}/pref`, `${name}/good`, `${name}/bad`),
  ];
}

/** Publishes each event once, in this order; with `ids`, redeliveries carry the same event id. */
export async function publishAll(
  system: TestSystem,
  projectId: string,
  events: readonly TestEvent[],
): Promise<string[]> {
  const ids: string[] = [];
  for (const event of events) ids.push(await publish(system, projectId, event));
  return ids;
}

export async function publish(system: TestSystem, projectId: string, event: TestEvent, id?: string): Promise<string> {
  return system.publish(
    event.contract,
    projectId,
    { subject: event.subject, data: event.data },
    id === undefined ? {} : { id },
  );
}

export interface Outcome {
  readonly type: string;
  readonly correlationId: string | undefined;
  readonly body: Record<string, unknown>;
}

/** Asks for training as the scheduler does and waits for the answer of datasets. */
export async function freeze(
  system: TestSystem,
  projectId: string,
  spec: Record<string, unknown> = {},
  fields: Record<string, unknown> = {},
  options: { timeoutMs?: number } = {},
): Promise<Outcome> {
  const requestId = newId();
  await requestTraining(system, projectId, requestId, spec, fields);
  return outcomeOf(system, projectId, requestId, options);
}

export async function requestTraining(
  system: TestSystem,
  projectId: string,
  requestId: string,
  spec: Record<string, unknown> = {},
  fields: Record<string, unknown> = {},
  eventId?: string,
): Promise<string> {
  const runId = newId();
  const data = trainingRequested.schema.parse({
    request_id: requestId,
    run_id: runId,
    source: 'manual',
    priority: 'normal',
    slot: 'default',
    method: 'dpo',
    base_model: 'nano',
    seed: null,
    hyperparameters: {},
    dataset: spec,
    requested_by: 'user:test',
    ...fields,
  });
  await system.publish(
    trainingRequested,
    projectId,
    { subject: runId, data, correlationId: runId },
    eventId === undefined ? {} : { id: eventId },
  );
  return runId;
}

export async function outcomeOf(
  system: TestSystem,
  projectId: string,
  requestId: string,
  options: { timeoutMs?: number } = {},
): Promise<Outcome> {
  return eventually(async () => {
    const [first, ...more] = await outcomes(system, projectId, requestId);
    if (!first) throw new Error('no answer yet');
    if (more.length > 0) throw new Error('answered more than once');
    return first;
  }, options);
}

export async function outcomes(system: TestSystem, projectId: string, requestId: string): Promise<Outcome[]> {
  const rows = await system.sql<{ headers: Record<string, string>; body: Record<string, unknown> }>(
    `SELECT headers, body FROM datasets.outbox WHERE project_id = $1 AND body->>'request_id' = $2`,
    [projectId, requestId],
  );
  return rows.map(({ headers, body }) => ({
    type: headers['ce-type'] ?? '',
    correlationId: headers['ce-correlationid'],
    body,
  }));
}

/** Rows of a version as the trainer reads them. */
export async function readRows<T>(text: string): Promise<T[]> {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as T);
}

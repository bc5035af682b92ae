import type { JsMsg } from '@nats-io/jetstream';
import {
  INTAKE_STREAM,
  type IntakeKind,
  type intakeReject,
  intakeSubject,
  rejectSubject,
} from '@tuneloop/contracts/ingest/events';
import { z } from 'zod';
import { type Bus, fromHeaders } from '../bus/bus.ts';
import { AppError } from '../errors.ts';
import { parseJsonBody } from '../http/jsonBody.ts';
import { deterministicId } from '../ids.ts';
import type { Tx } from '../pg/database.ts';
import { fieldErrors } from '../zodIssues.ts';
import { type MessageHandler, projectOfSubject, type ReceivedEvent } from './handler.ts';

/** An actor is a log field and a header: a sender's own name for itself is cut to this. */
const MAX_ACTOR_CHARS = 200;
/** Bound of what a refusal repeats of the sender's own id and source. */
const MAX_ECHO_CHARS = 500;

/** What every intake body says of itself, whatever its kind. */
export interface IntakeData {
  readonly id: string;
  readonly source: string;
}

export interface IntakeOptions<S extends z.ZodType<IntakeData>, Ctx> {
  /** The durable consumer is `<service>__<name>`. */
  readonly name: string;
  readonly kind: IntakeKind;
  readonly schema: S;
  /**
   * Runs once for each (project, source, id) that was taken, in the tenant's transaction. `event.id` is made from
   * those three, so it is the same for each copy. A final AppError becomes a dead letter and an answer on
   * `rejects.<project>.<kind>.v1` with the error's field and message.
   */
  readonly handle: (tx: Tx, event: ReceivedEvent<z.output<S>>, ctx: Ctx) => Promise<void>;
  readonly concurrency?: number;
}

/**
 * Declares the handler of what outside publishers submit under `ext.<project>.<kind>.submitted.v1`.
 *
 * Who the sender is follows from the subject alone, which NATS has checked against the sender's credentials; headers
 * and body name a project to no effect. The item's id and source come from CloudEvents headers (binary mode, `ce-id`
 * and `ce-source`), from a structured CloudEvent, or from a plain JSON body.
 */
export function defineIntake<S extends z.ZodType<IntakeData>, Ctx extends { readonly bus: Pick<Bus, 'publishCore'> }>(
  options: IntakeOptions<S, Ctx>,
): MessageHandler<Ctx, z.output<S>> {
  return {
    name: options.name,
    stream: INTAKE_STREAM,
    filter: intakeSubject('*', options.kind),
    parse: (message) => parseIntake(options.kind, options.schema, message),
    handle: options.handle,
    deadLetterId: (message) => deadLetterId(options.kind, message),
    onRejected: (message, error, ctx) => {
      const answer = JSON.stringify(rejection(message, error));
      ctx.bus.publishCore(rejectSubject(message.subject.split('.')[1] ?? '', options.kind), answer);
    },
    ...(options.concurrency === undefined ? {} : { concurrency: options.concurrency }),
  };
}

/** The inbox key of one submitted item: equal for every copy, different for every project, kind, source and id. */
export function intakeKey(projectId: string, kind: IntakeKind, item: IntakeData): string {
  return deterministicId('intake', projectId, kind, item.source, item.id);
}

function parseIntake<S extends z.ZodType<IntakeData>>(
  kind: IntakeKind,
  schema: S,
  message: JsMsg,
): ReceivedEvent<z.output<S>> {
  const projectId = projectOfSubject(message.subject);
  if (message.subject !== intakeSubject(projectId.toLowerCase(), kind)) {
    throw refused('intake.subject_invalid', 'publish under the id of your project, a UUID in lower case', 'subject');
  }
  const item = readItem(message);
  const result = schema.safeParse(item.body);
  if (!result.success) {
    const [first] = fieldErrors(result.error, item.body, 'body');
    throw refused('intake.invalid', `${first?.field} ${first?.message}`, first?.field ?? 'body');
  }
  const data = result.data;
  return {
    id: intakeKey(projectId, kind, data),
    type: `${kind}.submitted`,
    projectId,
    subject: data.id,
    time: item.time ?? message.time.toISOString(),
    actor: `intake:${data.source}`.replaceAll(/[^\x20-\x7e]/g, '?').slice(0, MAX_ACTOR_CHARS),
    aggregateVersion: null,
    // A turn of the loop is ours to name: what the sender claims is not passed on.
    correlationId: null,
    traceparent: undefined,
    data,
  };
}

interface SubmittedItem {
  readonly body: unknown;
  readonly time: string | undefined;
}

const eventTime = z.iso.datetime({ offset: true });

/** The body with `id` and `source` in their places, whichever way the sender wrote its event. */
function readItem(message: JsMsg): SubmittedItem {
  const headers = fromHeaders(message.headers);
  const body = parseBody(message);
  if (!isObject(body)) throw refused('intake.invalid', 'body must be a JSON object', 'body');
  if (isObject(body.data) && typeof body.specversion === 'string') {
    const { id, source, time } = body;
    return { body: { ...body.data, ...given({ id, source }) }, time: eventTime.safeParse(time).data };
  }
  const own = { id: headers['ce-id'], source: headers['ce-source'] };
  return { body: { ...body, ...given(own) }, time: eventTime.safeParse(headers['ce-time']).data };
}

function parseBody(message: JsMsg): unknown {
  let value: unknown;
  try {
    value = parseJsonBody(message.string());
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    throw refused(error.code, error.message, error.field ?? 'body', error);
  }
  return value;
}

/** A message that cannot be taken keeps one dead letter per item; one that names no item, one per message. */
function deadLetterId(kind: IntakeKind, message: JsMsg): string {
  const projectId = projectOfSubject(message.subject);
  const { id, source } = identityOf(message);
  if (id !== null && source !== null) return intakeKey(projectId, kind, { id, source });
  return deterministicId('intake.unnamed', projectId, kind, String(message.info.streamSequence));
}

function rejection(message: JsMsg, error: AppError): z.output<typeof intakeReject> {
  return { ...identityOf(message), field: error.field ?? null, reason: error.message, code: error.code };
}

/** Id and source as far as the message has any; it may be anything at all. */
function identityOf(message: JsMsg): { id: string | null; source: string | null } {
  let body: unknown;
  try {
    body = readItem(message).body;
  } catch {
    // What may not be taken may still say whose it is.
    const headers = fromHeaders(message.headers);
    body = { ...lenientBody(message), ...given({ id: headers['ce-id'], source: headers['ce-source'] }) };
  }
  const fields: Record<string, unknown> = isObject(body) ? body : {};
  return { id: echo(fields.id), source: echo(fields.source) };
}

function lenientBody(message: JsMsg): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(message.string());
    return isObject(value) ? value : {};
  } catch {
    return {};
  }
}

function echo(value: unknown): string | null {
  return typeof value === 'string' && value !== '' ? value.slice(0, MAX_ECHO_CHARS) : null;
}

function given(fields: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function refused(code: string, message: string, field: string, cause?: unknown): AppError {
  return new AppError({ code, status: 400, retry: false, message, field, ...(cause === undefined ? {} : { cause }) });
}

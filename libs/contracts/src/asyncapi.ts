import { dataSchema, type EventContract, eventSubject, streamName } from './event.ts';
import {
  INTAKE_KINDS,
  INTAKE_STREAM,
  intakeReject,
  intakeSchemas,
  rejectSubject,
  intakeSubject,
} from './ingest/events.ts';
import { jsonSchema } from './openapi.ts';

type Json = Record<string, unknown>;

/** AsyncAPI 3.0 document: our own events, and the intake that outside publishers use. */
export function asyncApiDocument(events: readonly EventContract[], version: string): Json {
  const channels: Record<string, Json> = {};
  const operations: Record<string, Json> = {};
  const messages: Record<string, Json> = {};
  const add = (
    name: string,
    address: string,
    summary: string,
    payload: Json,
    action: 'send' | 'receive',
    extra: Json,
  ): void => {
    const key = name.replaceAll('.', '_');
    messages[key] = { name, summary, contentType: 'application/json', payload };
    channels[key] = {
      address,
      messages: { [key]: { $ref: `#/components/messages/${key}` } },
      parameters: { project: { description: 'Project id (uuid)' } },
      ...extra,
    };
    operations[`${action}_${key}`] = { action, channel: { $ref: `#/channels/${key}` }, summary };
  };
  for (const event of events) {
    add(event.type, eventSubject(event, '{project}'), event.summary, jsonSchema(event.schema, 'output'), 'send', {
      'x-stream': streamName(event.owner),
      'x-dataschema': dataSchema(event),
    });
  }
  for (const kind of INTAKE_KINDS) {
    add(
      `ext.${kind}.submitted`,
      intakeSubject('{project}', kind),
      `Outside publishers submit a ${kind}; deduplicated by (project, source, id).`,
      jsonSchema(intakeSchemas[kind], 'input'),
      'receive',
      { 'x-stream': INTAKE_STREAM },
    );
    add(
      `rejects.${kind}`,
      rejectSubject('{project}', kind),
      `Why a submitted ${kind} was refused: field and reason.`,
      jsonSchema(intakeReject, 'output'),
      'send',
      {},
    );
  }
  return {
    asyncapi: '3.0.0',
    info: {
      title: 'Tuneloop events',
      version,
      description: 'CloudEvents 1.0 in NATS headers (binary mode), JSON bodies.',
    },
    defaultContentType: 'application/json',
    channels,
    operations,
    components: { messages },
  };
}

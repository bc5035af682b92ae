import { z } from 'zod';
import type { ServiceName } from './services.ts';

/**
 * One event type as all sides know it: the publisher's outbox, the consumer, the AsyncAPI document.
 * `type` is `<aggregate>.<event>`; the wire subject is `tl.<project>.<aggregate>.<event>.v<version>`.
 */
export interface EventContract<S extends z.ZodType = z.ZodType> {
  readonly type: string;
  readonly version: number;
  readonly owner: ServiceName;
  readonly summary: string;
  readonly schema: S;
}

export type EventData<E extends EventContract> = z.output<E['schema']>;

const TYPE_PATTERN = /^[a-z]+\.[a-z]+$/;

/** Declares an event. Throws at load when the type cannot be a NATS subject. */
export function defineEvent<S extends z.ZodType>(contract: EventContract<S>): EventContract<S> {
  if (!TYPE_PATTERN.test(contract.type)) throw new Error(`event type "${contract.type}" is not <aggregate>.<event>`);
  return Object.freeze(contract);
}

/** The subject one event of this type is published under. */
export function eventSubject(contract: EventContract, projectId: string): string {
  return `tl.${projectId}.${contract.type}.v${contract.version}`;
}

/** The filter that a durable consumer of this type uses: every project, this version. */
export function eventFilter(contract: EventContract): string {
  return eventSubject(contract, '*');
}

/** JetStream stream that holds what a service publishes. */
export function streamName(owner: ServiceName): string {
  return `TL_${owner.toUpperCase()}`;
}

/** CloudEvents `dataschema`: names the contract and its version. */
export function dataSchema(contract: EventContract): string {
  return `urn:tuneloop:event:${contract.type}:v${contract.version}`;
}

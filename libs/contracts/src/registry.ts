import * as datasets from './datasets/events.ts';
import type { EventContract } from './event.ts';
import * as gateway from './gateway/events.ts';
import * as ingest from './ingest/events.ts';
import * as responses from './responses/events.ts';
import * as rewards from './rewards/events.ts';
import * as scheduler from './scheduler/events.ts';
import { SERVICES, type ServiceName } from './services.ts';
import * as trainer from './trainer/events.ts';

function eventsOf(module: object): EventContract[] {
  return Object.values(module).filter(
    (value: unknown): value is EventContract =>
      typeof value === 'object' &&
      value !== null &&
      'type' in value &&
      'owner' in value &&
      'schema' in value &&
      'version' in value,
  );
}

/** Every event of the system, once. */
export const EVENTS: readonly EventContract[] = [gateway, ingest, responses, rewards, datasets, trainer, scheduler]
  .flatMap(eventsOf)
  .toSorted((a, b) => a.type.localeCompare(b.type));

/** Subjects that each owner's stream holds. */
export function streamSubjects(owner: ServiceName): string[] {
  return EVENTS.filter((event) => event.owner === owner).map((event) => `tl.*.${event.type}.>`);
}

/** Owners that publish at all. */
export const PUBLISHERS: readonly ServiceName[] = SERVICES.filter((name) => streamSubjects(name).length > 0);

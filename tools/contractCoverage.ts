import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { operationsRoutes } from '../libs/contracts/src/operations.ts';
import { EVENTS } from '../libs/contracts/src/registry.ts';
import { loadRoutes } from '../libs/contracts/src/routes.ts';
import { SERVICES } from '../libs/contracts/src/services.ts';

/** The folder that services write what they exercised into (`libs/runtime/src/exerciseLog.ts`). */
export const EXERCISE_DIR_ENV = 'TUNELOOP_EXERCISE_DIR';

/** Everything that a whole run of the tests has to have exercised. */
export interface Contracts {
  /** By operation id; the value is what a person reads. */
  readonly routes: ReadonlyMap<string, string>;
  /** `<type>.v<version>`. */
  readonly events: readonly string[];
}

/** All routes and events of `libs/contracts`. */
export async function loadContracts(): Promise<Contracts> {
  const shared = SERVICES.flatMap((service) => Object.values(operationsRoutes(service)));
  const routes = [...(await loadRoutes()), ...shared];
  return {
    routes: new Map(routes.map((route) => [route.operationId, `${route.method} ${route.path} of ${route.service}`])),
    events: EVENTS.map((event) => `${event.type}.v${event.version}`),
  };
}

/** What the processes of a run noted in `directory`. */
export function readExercised(directory: string): Set<string> {
  return new Set(
    readdirSync(directory).flatMap((file) =>
      readFileSync(join(directory, file), 'utf8')
        .split('\n')
        .filter((line) => line !== ''),
    ),
  );
}

/**
 * One line for each contract that no test exercised: a route that never answered with success, an event that never
 * reached its stream, a consumer that was started and never handled an event.
 */
export function unexercised(contracts: Contracts, exercised: ReadonlySet<string>): string[] {
  const routes = [...contracts.routes]
    .filter(([id]) => !exercised.has(`route ${id}`))
    .map(([id, what]) => `no test had a success from ${what} (${id})`);
  const events = contracts.events
    .filter((event) => !exercised.has(`published ${event}`))
    .map((event) => `no test made a service publish ${event}`);
  const consumers = [...exercised]
    .filter((line) => line.startsWith('consumer '))
    .map((line) => line.slice('consumer '.length))
    .filter((durable) => !exercised.has(`handled ${durable}`))
    .map((durable) => `no test gave the consumer ${durable} an event that it handled`);
  return [...routes, ...events, ...consumers].toSorted();
}

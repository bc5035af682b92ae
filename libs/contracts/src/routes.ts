import { readdir } from 'node:fs/promises';
import type { RouteContract } from './route.ts';
import { SERVICES } from './services.ts';

function isRoute(value: unknown): value is RouteContract {
  return typeof value === 'object' && value !== null && 'operationId' in value && 'method' in value && 'path' in value;
}

/**
 * Every route of the system, found by the layout: `<service>/*.ts`. A file added there is in the OpenAPI document, the
 * gateway's table and the coverage test without being named again.
 */
export async function loadRoutes(): Promise<RouteContract[]> {
  const routes: RouteContract[] = [];
  for (const service of SERVICES) {
    const folder = new URL(`./${service}/`, import.meta.url);
    const files = (await readdir(folder)).filter((name) => name.endsWith('.ts') && !name.endsWith('.test.ts'));
    for (const file of files.toSorted()) {
      const module: object = await import(new URL(file, folder).href);
      routes.push(...Object.values(module).filter((value: unknown) => isRoute(value)));
    }
  }
  const seen = new Set<string>();
  for (const route of routes) {
    if (seen.has(route.operationId)) throw new Error(`operation id ${route.operationId} is declared twice`);
    seen.add(route.operationId);
  }
  return routes;
}

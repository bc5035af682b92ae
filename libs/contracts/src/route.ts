import type { z } from 'zod';
import type { ServiceName } from './services.ts';

/** What a caller must hold. `service` is for calls between services and is never given to a key. */
export const SCOPES = ['read', 'write', 'feedback', 'train', 'admin', 'service'] as const;
export type Scope = (typeof SCOPES)[number];

export type HttpMethod = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';

/**
 * One HTTP route, declared once: Fastify mounts it, the gateway proxies it, OpenAPI and the client are made from it.
 * Paths use `{name}` for parameters, as OpenAPI does.
 */
export interface RouteContract<
  P extends z.ZodType = z.ZodType,
  Q extends z.ZodType = z.ZodType,
  B extends z.ZodType = z.ZodType,
  R extends z.ZodType = z.ZodType,
> {
  readonly service: ServiceName;
  readonly operationId: string;
  readonly method: HttpMethod;
  readonly path: string;
  readonly summary: string;
  /** null: no credentials needed (health, sign-in). */
  readonly scope: Scope | null;
  readonly params?: P;
  readonly query?: Q;
  readonly body?: B;
  readonly response: R;
  /** Status of success; 200 unless said. */
  readonly status?: number;
  /** What the body is when it is not JSON: the route then reads the raw request itself. */
  readonly consumes?: 'multipart/form-data' | 'application/octet-stream';
  readonly produces?: 'text/event-stream' | 'application/x-ndjson' | 'application/octet-stream' | 'text/html';
  readonly tag?: string;
}

/** Declares a route; keeps the precise schema types. */
export function defineRoute<
  P extends z.ZodType = z.ZodType<Record<string, never>>,
  Q extends z.ZodType = z.ZodType<Record<string, never>>,
  B extends z.ZodType = z.ZodType<undefined>,
  R extends z.ZodType = z.ZodType,
>(contract: RouteContract<P, Q, B, R>): RouteContract<P, Q, B, R> {
  return Object.freeze(contract);
}

/** Fastify's and find-my-way's notation of a contract's path. */
export function fastifyPath(path: string): string {
  return path.replaceAll(/\{(\w+)\}/g, ':$1');
}

/** Whether people and keys may call it through the gateway; the rest is between services. */
export function isPublic(route: RouteContract): boolean {
  return route.scope !== 'service';
}

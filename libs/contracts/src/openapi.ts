import { z } from 'zod';
import { problem } from './common.ts';
import { isPublic, type RouteContract } from './route.ts';

type Json = Record<string, unknown>;

const SCHEMA_OPTIONS = { target: 'draft-2020-12', unrepresentable: 'any' } as const;

/** JSON Schema 2020-12 of what a caller sends (`input`) or receives (`output`). */
export function jsonSchema(schema: z.ZodType, io: 'input' | 'output'): Json {
  const { $schema: _dialect, ...rest } = z.toJSONSchema(schema, { ...SCHEMA_OPTIONS, io });
  return rest;
}

/** OpenAPI 3.1 document of the public routes; calls between services are left out. */
export function openApiDocument(routes: readonly RouteContract[], version: string): Json {
  const paths: Record<string, Json> = {};
  for (const route of routes) {
    if (!isPublic(route)) continue;
    paths[route.path] = { ...paths[route.path], [route.method.toLowerCase()]: operation(route) };
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'Tuneloop',
      version,
      description:
        'Closes the loop from what a model says to a better model. Errors under /api/v1 are RFC 9457 problems.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: '/' }],
    security: [{ apiKey: [] }],
    paths: Object.fromEntries(Object.entries(paths).toSorted(([a], [b]) => a.localeCompare(b))),
    components: {
      securitySchemes: {
        apiKey: { type: 'http', scheme: 'bearer', description: 'An API key (tl_…) or a Supabase session token.' },
      },
      schemas: { Problem: jsonSchema(problem, 'output') },
    },
  };
}

function operation(route: RouteContract): Json {
  const parameters = [...parametersOf(route.params, 'path'), ...parametersOf(route.query, 'query')];
  if (route.method === 'POST') {
    parameters.push({
      name: 'Idempotency-Key',
      in: 'header',
      required: false,
      schema: { type: 'string', maxLength: 255 },
      description: 'The same key and body again give the first answer; kept 24 hours.',
    });
  }
  const success = route.produces ?? 'application/json';
  return {
    operationId: route.operationId,
    summary: route.summary,
    tags: [route.tag ?? route.service],
    ...(route.scope === null ? { security: [] } : { 'x-scope': route.scope }),
    ...(parameters.length > 0 ? { parameters } : {}),
    ...(route.body
      ? {
          requestBody: {
            required: true,
            content: { [route.consumes ?? 'application/json']: { schema: jsonSchema(route.body, 'input') } },
          },
        }
      : {}),
    responses: {
      [String(route.status ?? 200)]: {
        description: 'Success',
        content: { [success]: { schema: route.produces ? { type: 'string' } : jsonSchema(route.response, 'output') } },
      },
      default: errorResponse(route.path),
    },
  };
}

function errorResponse(path: string): Json {
  if (path.startsWith('/api/v1')) {
    return {
      description: 'What was wrong, with the field and the fix',
      content: { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } } },
    };
  }
  return {
    description: 'What was wrong, in the shape of this surface',
    content: { 'application/json': { schema: { type: 'object' } } },
  };
}

function parametersOf(schema: z.ZodType | undefined, location: 'path' | 'query'): Json[] {
  if (!schema) return [];
  const object = jsonSchema(schema, 'input') as { properties?: Record<string, Json>; required?: string[] };
  return Object.entries(object.properties ?? {}).map(([name, property]) => ({
    name,
    in: location,
    required: location === 'path' || (object.required ?? []).includes(name),
    schema: property,
  }));
}

import { readdir, readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { asyncApiDocument } from './asyncapi.ts';
import { eventFilter, eventSubject } from './event.ts';
import { INTAKE_KINDS, intakeSchemas } from './ingest/events.ts';
import { openApiDocument } from './openapi.ts';
import { EVENTS, PUBLISHERS, streamSubjects } from './registry.ts';
import { isPublic } from './route.ts';
import { loadRoutes } from './routes.ts';

const GOLDEN = new URL('../golden/', import.meta.url);
const PROJECT = '0190f5a2-7b3c-7def-8123-456789abcdef';

async function golden(name: string): Promise<unknown> {
  return JSON.parse(await readFile(new URL(`${name}.v1.json`, GOLDEN), 'utf8'));
}

/** As NATS matches: `*` one token, `>` the rest. */
function matches(pattern: string, subject: string): boolean {
  const wanted = pattern.split('.');
  const given = subject.split('.');
  const rest = wanted.indexOf('>');
  if (rest === -1 && wanted.length !== given.length) return false;
  return wanted.slice(0, rest === -1 ? undefined : rest).every((token, i) => token === '*' || token === given[i]);
}

describe('events', () => {
  it.each(EVENTS.map((event) => [event.type, event] as const))(
    '%s of every released version still parses',
    async (type, event) => {
      const body = await golden(type);
      expect(event.schema.parse(body)).toEqual(expect.objectContaining({}));
      expect(event.schema.safeParse({}).success).toBe(false);
    },
  );

  it.each(INTAKE_KINDS)('intake of a %s parses for ever', async (kind) => {
    expect(intakeSchemas[kind].safeParse(await golden(`ext.${kind}.submitted`)).success).toBe(true);
  });

  it('has a golden file for each event and none for anything else', async () => {
    const files = (await readdir(GOLDEN)).map((name) => name.replace('.v1.json', ''));
    const expected = [...EVENTS.map((event) => event.type), ...INTAKE_KINDS.map((kind) => `ext.${kind}.submitted`)];
    expect(files.toSorted()).toEqual(expected.toSorted());
  });

  it('lies in exactly one stream, and its consumer filters inside a subject of that stream', () => {
    for (const event of EVENTS) {
      const subject = eventSubject(event, PROJECT);
      const holders = PUBLISHERS.filter((owner) => streamSubjects(owner).some((pattern) => matches(pattern, subject)));
      expect(holders, event.type).toEqual([event.owner]);
      expect(matches(eventFilter(event), subject), event.type).toBe(true);
    }
  });

  it('is described once in AsyncAPI, intake and rejects beside it', () => {
    const document = asyncApiDocument(EVENTS, '0.0.0') as { channels: object };
    expect(Object.keys(document.channels).length).toBe(EVENTS.length + 2 * INTAKE_KINDS.length);
  });
});

describe('routes', () => {
  it('have unique ids, and public ones a unique method and path', async () => {
    const routes = await loadRoutes();
    expect(routes.length).toBeGreaterThan(100);
    const doors = routes.filter((route) => isPublic(route)).map((route) => `${route.method} ${route.path}`);
    expect(new Set(doors).size).toBe(doors.length);
  });

  it('keep to themselves what services say to each other', async () => {
    const routes = await loadRoutes();
    for (const route of routes) {
      if (route.path.startsWith('/internal/')) expect(route.scope, route.operationId).toBe('service');
    }
    const { paths } = openApiDocument(routes, '0.0.0') as { paths: Record<string, unknown> };
    expect(Object.keys(paths).filter((path) => path.startsWith('/internal/'))).toEqual([]);
    expect(paths['/v1/chat/completions']).toBeDefined();
  });

  it('name every path parameter in their schema', async () => {
    for (const route of await loadRoutes()) {
      const named = [...route.path.matchAll(/\{(\w+)\}/g)].map((match) => match[1]!);
      if (named.length === 0) continue;
      const values = Object.fromEntries(named.map((name) => [name, undefined]));
      const result = route.params?.safeParse(values);
      expect(result?.success, route.operationId).toBe(false);
    }
  });
});

import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { asyncApiDocument } from '../src/asyncapi.ts';
import { jsonSchema, openApiDocument } from '../src/openapi.ts';
import { EVENTS } from '../src/registry.ts';
import { loadRoutes } from '../src/routes.ts';

/** Writes `generated/`: openapi.json, asyncapi.json, and one JSON Schema an event. CI runs it and compares. */
const out = new URL('../generated/', import.meta.url);
const { version } = JSON.parse(await readFile(new URL('../package.json', import.meta.url), 'utf8')) as {
  version: string;
};

async function write(name: string, document: unknown): Promise<void> {
  await writeFile(new URL(name, out), `${JSON.stringify(document, null, 2)}\n`);
}

await rm(out, { recursive: true, force: true });
await mkdir(new URL('events/', out), { recursive: true });
const routes = await loadRoutes();
await write('openapi.json', openApiDocument(routes, version));
await write('asyncapi.json', asyncApiDocument(EVENTS, version));
for (const event of EVENTS) {
  await write(`events/${event.type}.v${event.version}.json`, {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    $id: `urn:tuneloop:event:${event.type}:v${event.version}`,
    title: event.summary,
    ...jsonSchema(event.schema, 'output'),
  });
}
process.stdout.write(`generated ${routes.length} routes, ${EVENTS.length} events\n`);

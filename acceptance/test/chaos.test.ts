import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { Client } from '@tuneloop/client/client';
import { listDeadLetters } from '@tuneloop/contracts/gateway/http';
import { createImage } from '@tuneloop/contracts/ingest/http';
import { createResponse } from '@tuneloop/contracts/responses/http';
import { createFeedback } from '@tuneloop/contracts/rewards/http';
import { waitUntil } from '@tuneloop/local/processes';
import { Client as PgClient } from 'pg';
import sharp from 'sharp';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { BOUNDARIES, Chaos, seeded } from '../src/chaos.ts';
import { type Stack, startStack } from '../src/stack.ts';

const SEED = 20_260_301;
const DEATHS = 50;
const CLIENTS = 3;
const SETTLE_MS = 120_000;
/** Answers that the sample project asks for with each picture. */
const CANDIDATES = 8;
/** Every boundary exists in each of these; the gateway has commits only. */
const SERVICES = ['responses', 'rewards', 'datasets', 'ingest'] as const;

let stack: Stack;
let faultsDir: string;

beforeAll(async () => {
  const dataDir = `/tmp/tuneloop-chaos-${process.pid}`;
  faultsDir = join(dataDir, 'faults');
  stack = await startStack({ flags: ['--processes', '--empty'], env: { TUNELOOP_FAULTS_DIR: faultsDir }, dataDir });
});
afterAll(() => stack?.stop());

interface Ledger {
  readonly images: Set<string>;
  readonly responses: Set<string>;
  readonly feedback: Set<string>;
}

/** Uploads, records and rates until told to stop; every call is repeated with its own key until it is answered. */
async function work(client: Client, ledger: Ledger, random: () => number, stopped: () => boolean): Promise<void> {
  while (!stopped()) {
    const picture = await sharp({
      create: {
        width: 64,
        height: 64,
        channels: 3,
        background: { r: Math.floor(random() * 255), g: Math.floor(random() * 255), b: Math.floor(random() * 255) },
      },
    })
      .png()
      .toBuffer();
    const form = new FormData();
    form.set('file', new File([new Uint8Array(picture)], `${randomUUID()}.png`, { type: 'image/png' }));
    form.set('category', 'general');
    const image = await client.call(createImage, { form }, { idempotencyKey: randomUUID() });
    ledger.images.add(image.id);
    const response = await client.call(
      createResponse,
      { body: { prompt: 'Describe the picture.', response_text: `A colour ${random()}`, image_id: image.id } },
      { idempotencyKey: randomUUID() },
    );
    ledger.responses.add(response.response_id);
    const rated = await client.call(
      createFeedback,
      {
        body: {
          kind: 'stars',
          response_id: response.response_id,
          value: 1 + Math.floor(random() * 5),
          user_id: randomUUID(),
        },
      },
      { idempotencyKey: randomUUID() },
    );
    ledger.feedback.add(rated.id);
  }
}

async function ids(sql: string): Promise<string[]> {
  const client = new PgClient({ connectionString: stack.databaseUrl });
  await client.connect();
  try {
    const { rows } = await client.query<{ id: string }>(sql);
    return rows.map((row) => row.id);
  } finally {
    await client.end();
  }
}

it(`keeps every answered call exactly once under ${DEATHS} deaths at every boundary`, async () => {
  const random = seeded(SEED);
  const ledger: Ledger = { images: new Set(), responses: new Set(), feedback: new Set() };
  const client = new Client({
    baseUrl: stack.url,
    apiKey: stack.apiKey,
    attempts: 60,
    firstWaitMs: 100,
    timeoutMs: 15_000,
  });
  let stopping = false;
  const clients = Promise.all(
    Array.from({ length: CLIENTS }, (_, index) => work(client, ledger, seeded(SEED + index + 1), () => stopping)),
  );
  const chaos = new Chaos(stack, faultsDir);

  // Every service dies at every boundary once, all four at a time, each in an order of its own; NATS and Postgres go
  // down in between. Then at random until there are enough deaths.
  const reached = new Set<string>();
  const lane = async (service: (typeof SERVICES)[number], laneRandom: () => number): Promise<void> => {
    const order = BOUNDARIES.map((boundary) => ({ boundary, at: laneRandom() })).toSorted((x, y) => x.at - y.at);
    for (const [index, { boundary }] of order.entries()) {
      if (service === SERVICES[0] && index === 2) await chaos.killServer('nats');
      if (service === SERVICES[0] && index === 5) await chaos.killServer('postgres');
      if (await chaos.killAt(service, boundary, 1 + Math.floor(laneRandom() * 3))) reached.add(boundary);
    }
  };
  const reign = async (): Promise<void> => {
    await Promise.all(SERVICES.map((service, index) => lane(service, seeded(SEED + 100 + index))));
    while (chaos.deaths.length < DEATHS) await chaos.kill(['gateway', ...SERVICES][Math.floor(random() * 5)]!);
  };
  // A client that is refused for good ends the run at once.
  await Promise.race([reign(), clients]);
  stopping = true;
  await clients;

  expect(chaos.deaths.length).toBeGreaterThanOrEqual(DEATHS);
  expect([...reached].toSorted()).toEqual([...BOUNDARIES].toSorted());
  expect(ledger.feedback.size).toBeGreaterThan(20);

  // Each picture also brought its candidate answers, made by the model server: exactly so many, whatever died.
  const candidates = CANDIDATES * ledger.images.size;
  const checks: [string, ReadonlySet<string>, number, string][] = [
    ['images', ledger.images, 0, 'SELECT id FROM ingest.images'],
    ['responses', ledger.responses, candidates, 'SELECT id FROM responses.responses'],
    ['responses as rewards sees them', ledger.responses, candidates, 'SELECT id FROM rewards.responses'],
    ['responses as datasets sees them', ledger.responses, candidates, 'SELECT id FROM datasets.responses'],
    ['feedback', ledger.feedback, 0, 'SELECT id FROM rewards.feedback'],
    ['rewards', ledger.feedback, 0, 'SELECT feedback_id AS id FROM rewards.rewards'],
    ['rewards as datasets sees them', ledger.feedback, 0, 'SELECT feedback_id AS id FROM datasets.rewards'],
  ];
  for (const [name, ours, more, sql] of checks) {
    await waitUntil(async () => (await ids(sql)).length === ours.size + more, SETTLE_MS);
    const found = await ids(sql);
    expect(new Set(found).size, `${name}: none twice`).toBe(found.length);
    expect(found.length, name).toBe(ours.size + more);
    const stored = new Set(found);
    const lost = [...ours].filter((id) => !stored.has(id));
    expect(lost, `${name}: none lost`).toEqual([]);
  }
  const dead = await client.call(listDeadLetters, { query: {} });
  expect(dead).toEqual({ data: [], unavailable: [] });
}, 600_000);

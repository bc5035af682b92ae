import { randomUUID } from 'node:crypto';
import { Client } from '@tuneloop/client/client';
import { createResponse } from '@tuneloop/contracts/responses/http';
import autocannon from 'autocannon';
import { Client as PgClient } from 'pg';
import { type BenchStack, startNoop } from './stack.ts';
import { median, type Result } from './result.ts';

const SECONDS = 5;
const ROUNDS = 3;
const CONNECTIONS = 16;
const SETTLE_MS = 2_000;
const RESPONSES = 200;

interface Load {
  readonly perSecond: number;
  readonly errors: number;
}

async function load(url: string, apiKey: string, responseIds: readonly string[], rate?: number): Promise<Load> {
  const result = await autocannon({
    url: `${url}/api/v1/feedback`,
    method: 'POST',
    connections: CONNECTIONS,
    duration: SECONDS,
    headers: { authorization: `Bearer ${apiKey}`, 'content-type': 'application/json' },
    ...(rate === undefined ? {} : { overallRate: rate }),
    requests: [
      {
        setupRequest: (request) => ({
          ...request,
          body: JSON.stringify({
            kind: 'stars',
            response_id: responseIds[Math.floor(Math.random() * responseIds.length)],
            value: 4,
            user_id: randomUUID(),
          }),
        }),
      },
    ],
  });
  return { perSecond: result.requests.average, errors: result.errors + result.non2xx };
}

/** Durable feedback against a no-op, in turn; then the way from commit to the handler at half of that load. */
export async function benchFeedback(stack: BenchStack): Promise<Result[]> {
  const client = new Client({ baseUrl: stack.url, apiKey: stack.apiKey });
  // Ratings of one prompt wait for each other; people rate many.
  const responseIds: string[] = [];
  for (let i = 0; i < RESPONSES; i++) {
    const made = await client.call(
      createResponse,
      { body: { prompt: `p${i}`, response_text: 'r' } },
      { idempotencyKey: randomUUID() },
    );
    responseIds.push(made.response_id);
  }
  const noop = await startNoop();
  const ours: number[] = [];
  const theirs: number[] = [];
  await load(stack.url, stack.apiKey, responseIds);
  for (let round = 0; round < ROUNDS; round++) {
    theirs.push((await load(noop.url, stack.apiKey, responseIds)).perSecond);
    const measured = await load(stack.url, stack.apiKey, responseIds);
    if (measured.errors > 0) throw new Error(`${measured.errors} requests failed`);
    ours.push(measured.perSecond);
  }
  noop.child.disconnect();
  const durable = median(ours);
  const reference = median(theirs);

  const since = new Date();
  const half = Math.max(1, Math.floor(durable / 2));
  await load(stack.url, stack.apiKey, responseIds, half);
  await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
  const latency = await handlerLatency(stack.databaseUrl, since);
  return [
    {
      name: 'durable POST /api/v1/feedback',
      value: `${durable.toFixed(0)} requests/s`,
      reference: `Fastify no-op, ${reference.toFixed(0)} requests/s`,
      ratio: durable / reference,
      method: `${CONNECTIONS} connections on ${RESPONSES} responses, medians of ${ROUNDS} interleaved rounds of ${SECONDS} s; through the gateway, committed with its events before the answer`,
    },
    {
      name: 'commit to handler, reward.recorded to datasets',
      value: `p50 ${latency.p50.toFixed(0)} ms, p99 ${latency.p99.toFixed(0)} ms`,
      reference: `p50 of the same run`,
      ratio: latency.p99 / latency.p50,
      method: `at ${half} requests/s (half of the rate above), ${latency.n} events; from the start of the transaction that wrote the outbox row to the start of the one that handled it, by the database's clock`,
    },
  ];
}

async function handlerLatency(databaseUrl: string, since: Date): Promise<{ p50: number; p99: number; n: number }> {
  const client = new PgClient({ connectionString: databaseUrl });
  await client.connect();
  try {
    const { rows } = await client.query<{ p50: number; p99: number; n: string }>(
      `SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY ms) AS p50, percentile_cont(0.99) WITHIN GROUP (ORDER BY ms) AS p99, count(*) AS n
       FROM (SELECT extract(epoch FROM i.received_at - o.created_at) * 1000 AS ms FROM rewards.outbox o
             JOIN datasets.inbox i ON i.event_id = o.id WHERE o.created_at >= $1 AND o.subject LIKE '%reward.recorded%') t`,
      [since],
    );
    const [row] = rows;
    if (!row || row.p50 === null) throw new Error('no handled event was found');
    return { p50: row.p50, p99: row.p99, n: Number(row.n) };
  } finally {
    await client.end();
  }
}

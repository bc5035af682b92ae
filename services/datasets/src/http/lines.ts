import { Readable } from 'node:stream';
import type { Tx } from '@tuneloop/runtime/pg/database';
import { SPLIT_ORDER, type Split } from '../domain/splits.ts';
import { type LineRow, listLines, listTestPromptLines } from '../store/versions.ts';

/** A batch is sized by the last one, so that it holds about this much whatever an example's length is. */
const BATCH_BYTES = 1024 * 1024;
const FIRST_BATCH = 64;
const MAX_BATCH = 4_096;

type Tenant = <T>(work: (tx: Tx) => Promise<T>) => Promise<T>;
type Fetch = (tx: Tx, after: number, limit: number) => Promise<LineRow[]>;

/**
 * Lines in order, batch by batch. A frozen version never changes, so each batch is a transaction of its own: a slow
 * reader holds no connection and no snapshot.
 */
async function* batches(tenant: Tenant, fetch: Fetch): AsyncGenerator<string[]> {
  let after = 0;
  let limit = FIRST_BATCH;
  for (;;) {
    const [from, size] = [after, limit];
    const rows = await tenant((tx) => fetch(tx, from, size));
    const last = rows.at(-1);
    if (!last) return;
    yield rows.map((row) => row.line);
    if (rows.length < size) return;
    after = last.ordinal;
    const bytes = rows.reduce((sum, row) => sum + row.line.length, 0);
    limit = Math.max(1, Math.min(MAX_BATCH, Math.floor((BATCH_BYTES * rows.length) / bytes)));
  }
}

async function* exampleBatches(tenant: Tenant, versionId: string, split: Split | undefined): AsyncGenerator<string[]> {
  for (const of of split === undefined ? SPLIT_ORDER : [split]) {
    yield* batches(tenant, (tx, after, limit) => listLines(tx, { versionId, split: of, after, limit }));
  }
}

async function* joined(source: AsyncGenerator<string[]>, map: (line: string) => string): AsyncGenerator<string> {
  for await (const lines of source) yield `${lines.map(map).join('\n')}\n`;
}

/** The examples of one split, or of all in reading order, as NDJSON. */
export function streamExamples(
  tenant: Tenant,
  versionId: string,
  split: Split | undefined,
  map: (line: string) => string = (line) => line,
): Readable {
  return Readable.from(joined(exampleBatches(tenant, versionId, split), map), { objectMode: false });
}

export function streamPrompts(tenant: Tenant, versionId: string): Readable {
  const source = batches(tenant, (tx, after, limit) => listTestPromptLines(tx, { versionId, after, limit }));
  return Readable.from(
    joined(source, (line) => line),
    { objectMode: false },
  );
}

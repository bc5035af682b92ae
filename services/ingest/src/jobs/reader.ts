import { MAX_DOCUMENT_BYTES } from '@tuneloop/contracts/ingest/http';
import { AppError, describeError } from '@tuneloop/runtime/errors';
import { assertLease, type Lease, LeasedPool, LeaseLostError } from '@tuneloop/runtime/leases';
import { projectSettings } from '@tuneloop/runtime/projects';
import type { Job } from '@tuneloop/runtime/service';
import type { IngestContext } from '../config.ts';
import { DocumentError } from '../extract/blocks.ts';
import { Extractor } from '../extractor.ts';
import { type DocumentOverview, findDocumentById, postponeDocument, settleFailedDocument } from '../store/documents.ts';
import { storeChunks } from '../usecases/readDocument.ts';

const TABLE = 'documents';
const LEASE_MS = 15_000;
const HEARTBEAT_MS = 5_000;
/** Uploads wake it; this is for retries and for what another process left. */
const POLL_MS = 5_000;
const ACTOR = 'service:ingest';
/** Waits after the first, second, … passing failure (a store that is away); then it is final. */
const RETRY_WAITS_MS = [1_000, 5_000, 30_000, 120_000, 600_000] as const;
/** What counts the tokens of a model whose tokenizer is not known here. */
const ESTIMATE = 'estimate';

/**
 * Reads stored documents into chunks.
 *
 *   pending -> leased -> ready (chunks, event)
 *      ^          |---> failed (what is wrong with the document, or tried too often), with the reason
 *      '--- wait -' (passing failure)
 */
export class Reader implements Job {
  readonly name = 'reader';
  readonly #ctx: IngestContext;
  readonly #extractor: Extractor;
  readonly #pool: LeasedPool;

  constructor(ctx: IngestContext) {
    const { EXTRACT_CONCURRENCY: concurrency, EXTRACT_MEMORY_MB: memoryMb, EXTRACT_SECONDS: seconds } = ctx.config;
    this.#ctx = ctx;
    this.#extractor = new Extractor({ memoryMb, timeoutMs: seconds * 1_000, log: ctx.log });
    this.#pool = new LeasedPool({
      pg: ctx.pg,
      log: ctx.log,
      table: TABLE,
      claimFunction: 'claim_documents',
      owner: ctx.instance,
      concurrency,
      leaseMs: LEASE_MS,
      heartbeatMs: HEARTBEAT_MS,
      pollMs: POLL_MS,
      work: (lease) => this.#work(lease),
    });
  }

  start(): void {
    this.#pool.start();
  }

  async stop(): Promise<void> {
    await this.#pool.stop();
  }

  wake(): void {
    this.#pool.wake();
  }

  async #work(lease: Lease): Promise<void> {
    const { pg } = this.#ctx;
    const row = await pg.withTenant(lease.projectId, (tx) => findDocumentById(tx, lease.id));
    if (row?.status !== 'pending') return;
    try {
      await this.#read(lease, row);
    } catch (error) {
      if (error instanceof LeaseLostError) throw error;
      if (lease.signal.aborted) {
        await pg.withTenant(lease.projectId, (tx) =>
          postponeDocument(tx, lease.id, lease.epoch, { ms: 0, counted: false }),
        );
        return;
      }
      await this.#fail(lease, row, error);
    }
  }

  async #read(lease: Lease, row: DocumentOverview): Promise<void> {
    const { pg, blobs, config, faults } = this.#ctx;
    const settings = await pg.withTenant(lease.projectId, (tx) => projectSettings(tx, this.#ctx));
    const folder = config.TOKENIZERS.get(settings.model);
    const chunkTokens = row.chunk_tokens ?? config.CHUNK_TOKENS;
    const bytes = await blobs.bytes(row.blob_key, MAX_DOCUMENT_BYTES);
    const job = {
      contentType: row.content_type,
      chunkTokens,
      overlapTokens: row.overlap_tokens,
      tokenizer: folder ?? null,
    };
    const read = await this.#extractor.extract(bytes, job, lease.signal);
    await pg.withTenant(
      lease.projectId,
      async (tx) => {
        await assertLease(tx, TABLE, lease);
        await storeChunks(tx, row, read, { tokenizer: folder === undefined ? ESTIMATE : settings.model, chunkTokens });
        faults.hit('ingest.before_chunks_commit');
      },
      { actor: ACTOR },
    );
  }

  async #fail(lease: Lease, row: DocumentOverview, thrown: unknown): Promise<void> {
    const { pg, log } = this.#ctx;
    const waitMs = RETRY_WAITS_MS[row.attempts - 1];
    const final = thrown instanceof DocumentError || (thrown instanceof AppError && !thrown.retry);
    if (!final && waitMs !== undefined) {
      await pg.withTenant(lease.projectId, (tx) =>
        postponeDocument(tx, lease.id, lease.epoch, { ms: waitMs, counted: true }),
      );
      log.info({ id: row.id, waitMs, reason: describeError(thrown) }, 'reading a document failed; will retry');
      return;
    }
    const { code, reason } = failureOf(thrown);
    if (!final) log.error({ id: row.id, reason: describeError(thrown) }, 'reading a document given up');
    await pg.withTenant(
      lease.projectId,
      async (tx) => {
        await assertLease(tx, TABLE, lease);
        await settleFailedDocument(tx, row.id, code, reason);
      },
      { actor: ACTOR },
    );
  }
}

function failureOf(thrown: unknown): { code: string; reason: string } {
  if (thrown instanceof DocumentError) return { code: `ingest.document.${thrown.code}`, reason: thrown.message };
  if (thrown instanceof AppError) return { code: thrown.code, reason: thrown.message };
  const reason = 'it could not be read after several attempts; read it again by POST /api/v1/documents/{id}/extract';
  return { code: 'ingest.document.unreadable', reason };
}

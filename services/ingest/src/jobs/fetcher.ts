import { intakeSubject, type intakeReject, rejectSubject } from '@tuneloop/contracts/ingest/events';
import { MAX_DOCUMENT_BYTES, MAX_IMAGE_BYTES } from '@tuneloop/contracts/ingest/http';
import { AppError, describeError } from '@tuneloop/runtime/errors';
import { SafeFetcher } from '@tuneloop/runtime/http/safeFetch';
import { newId } from '@tuneloop/runtime/ids';
import { assertLease, type Lease, LeasedPool, LeaseLostError } from '@tuneloop/runtime/leases';
import type { Job } from '@tuneloop/runtime/service';
import type { z } from 'zod';
import type { IngestContext } from '../config.ts';
import { nameOfUrl } from '../domain/naming.ts';
import type { PictureReader } from '../pictures.ts';
import { INTAKE_CONSUMERS, insertIntakeDeadLetter } from '../store/deadLetters.ts';
import { type FetchRow, findPendingFetch, postponeFetch, releaseFetch, settleFetch } from '../store/fetches.ts';
import { recordRejection } from '../usecases/reject.ts';
import { withBlob } from '../usecases/storeBlob.ts';
import { checkDocument, storeDocument } from '../usecases/storeDocument.ts';
import { storeImage } from '../usecases/storeImage.ts';

const TABLE = 'intake_fetches';
const LEASE_MS = 15_000;
const HEARTBEAT_MS = 5_000;
const POLL_MS = 500;
/** For one whole download, redirects included. */
const FETCH_TIMEOUT_MS = 30_000;
/** Waits after the first, second, … passing failure; about an hour in all, then it is final. */
const RETRY_WAITS_MS = [1_000, 5_000, 30_000, 120_000, 600_000, 2_700_000] as const;

/**
 * Reads what was submitted by URL, storage key or inline, and stores it.
 *
 *   pending -> leased -> done
 *      ^          |---> failed (final, or tried too often): told on `rejects.*`, kept as a dead letter
 *      '--- wait -' (passing failure)
 */
export class Fetcher implements Job {
  readonly name = 'fetcher';
  readonly #ctx: IngestContext;
  readonly #pictures: PictureReader;
  readonly #onDocument: () => void;
  readonly #http: SafeFetcher;
  readonly #pool: LeasedPool;

  /** @param onDocument told of each stored document, which is then to be read */
  constructor(ctx: IngestContext, pictures: PictureReader, onDocument: () => void) {
    this.#ctx = ctx;
    this.#pictures = pictures;
    this.#onDocument = onDocument;
    this.#http = new SafeFetcher({ allowHosts: ctx.config.FETCH_ALLOW_HOSTS });
    this.#pool = new LeasedPool({
      pg: ctx.pg,
      log: ctx.log,
      table: TABLE,
      claimFunction: 'claim_intake_fetches',
      owner: ctx.instance,
      concurrency: ctx.config.FETCH_CONCURRENCY,
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
    await this.#http.close();
  }

  wake(): void {
    this.#pool.wake();
  }

  async #work(lease: Lease): Promise<void> {
    const { pg } = this.#ctx;
    const row = await pg.withTenant(lease.projectId, (tx) => findPendingFetch(tx, lease.id));
    if (!row) return;
    try {
      const file = await this.#read(row, lease.signal);
      if (row.kind === 'image') await this.#storeImage(lease, row, file.bytes);
      else await this.#storeDocument(lease, row, file.bytes, row.item.content_type ?? file.contentType);
    } catch (error) {
      if (error instanceof LeaseLostError) throw error;
      if (lease.signal.aborted) {
        // Stopping, or taken over: then this touches nothing.
        await pg.withTenant(lease.projectId, (tx) => releaseFetch(tx, lease.id, lease.epoch));
        return;
      }
      await this.#fail(lease, row, error);
    }
  }

  async #read(row: FetchRow, signal: AbortSignal): Promise<{ bytes: Buffer; contentType: string | undefined }> {
    const maxBytes = row.kind === 'image' ? MAX_IMAGE_BYTES : MAX_DOCUMENT_BYTES;
    const { url, storage_key: storageKey, inline } = row.item;
    if (url !== undefined) {
      const file = await this.#http.fetch(url, { maxBytes, timeoutMs: FETCH_TIMEOUT_MS, signal });
      return { bytes: file.bytes, contentType: file.contentType ?? undefined };
    }
    if (storageKey !== undefined) {
      return { bytes: await this.#ctx.blobs.bytes(storageKey, maxBytes), contentType: undefined };
    }
    return { bytes: Buffer.from(inline ?? '', 'base64'), contentType: undefined };
  }

  async #storeImage(lease: Lease, row: FetchRow & { kind: 'image' }, bytes: Buffer): Promise<void> {
    const { item } = row;
    const picture = await this.#pictures.read(bytes);
    const id = newId();
    const attempt = { id, projectId: lease.projectId, bytes: picture.bytes, contentType: picture.contentType };
    const fileName = item.url === undefined ? `picture.${picture.extension}` : nameOfUrl(item.url);
    await withBlob(this.#ctx, attempt, (store) =>
      this.#ctx.pg.withTenant(
        lease.projectId,
        async (tx) => {
          await assertLease(tx, TABLE, lease);
          const said = {
            fileName,
            category: item.category,
            altText: item.alt_text ?? null,
            userId: item.user_id,
            sessionId: row.session_id,
            metadata: item.metadata ?? {},
            provenance: provenanceOf(row),
            generate: undefined,
            intakeId: row.id,
          };
          await storeImage(tx, this.#ctx, id, picture, said, store);
          await settleFetch(tx, row.id, 'done', null);
          this.#ctx.faults.hit('ingest.before_fetch_commit');
        },
        { actor: row.actor },
      ),
    );
  }

  async #storeDocument(
    lease: Lease,
    row: FetchRow & { kind: 'document' },
    bytes: Buffer,
    declared: string | undefined,
  ): Promise<void> {
    const { item } = row;
    const contentType = await checkDocument(bytes, item.name, declared);
    const id = newId();
    await withBlob(this.#ctx, { id, projectId: lease.projectId, bytes, contentType }, (store) =>
      this.#ctx.pg.withTenant(
        lease.projectId,
        async (tx) => {
          await assertLease(tx, TABLE, lease);
          const document = {
            id,
            session_id: row.session_id,
            intake_id: row.id,
            name: item.name,
            content_type: contentType,
            metadata: item.metadata ?? {},
            provenance: provenanceOf(row),
            chunk_tokens: null,
            overlap_tokens: 0,
          };
          await storeDocument(tx, document, store);
          tx.afterCommit(this.#onDocument);
          await settleFetch(tx, row.id, 'done', null);
          this.#ctx.faults.hit('ingest.before_fetch_commit');
        },
        { actor: row.actor },
      ),
    );
  }

  async #fail(lease: Lease, row: FetchRow, thrown: unknown): Promise<void> {
    const { pg, log, bus } = this.#ctx;
    const waitMs = RETRY_WAITS_MS[row.attempts - 1];
    const final = (thrown instanceof AppError && !thrown.retry) || waitMs === undefined;
    if (!final) {
      await pg.withTenant(lease.projectId, async (tx) => {
        await assertLease(tx, TABLE, lease);
        await postponeFetch(tx, row.id, waitMs, describeError(thrown));
      });
      log.info({ id: row.id, waitMs, reason: describeError(thrown) }, 'fetching failed; will retry');
      return;
    }
    const error = asRefusal(row, thrown);
    await pg.withTenant(
      lease.projectId,
      async (tx) => {
        await assertLease(tx, TABLE, lease);
        await settleFetch(tx, row.id, 'failed', describeError(thrown));
        await recordRejection(tx, {
          id: row.id,
          kind: row.kind,
          source: row.item.url ?? `${row.item.source} ${row.item.id}`,
          sessionId: row.session_id,
          error,
        });
        if (row.origin !== 'intake') return;
        await insertIntakeDeadLetter(tx, {
          consumer: `${this.#ctx.name}__${INTAKE_CONSUMERS[row.kind]}`,
          eventId: row.id,
          subject: intakeSubject(lease.projectId, row.kind),
          body: JSON.stringify(row.item),
          code: error.code,
          error: describeError(thrown),
          deliveries: row.attempts,
        });
        tx.afterCommit(() => {
          const { id, source } = row.item;
          const answer = { id, source, field: error.field ?? null, reason: error.message, code: error.code };
          const reject: z.output<typeof intakeReject> = answer;
          bus.publishCore(rejectSubject(lease.projectId, row.kind), JSON.stringify(reject));
        });
      },
      { actor: row.actor },
    );
  }
}

/** The failure as the sender may read it, under the field by which the file was given. */
function asRefusal(row: FetchRow, thrown: unknown): AppError {
  const { url, storage_key: storageKey } = row.item;
  const field = url !== undefined ? 'url' : storageKey !== undefined ? 'storage_key' : 'inline';
  const known = thrown instanceof AppError ? thrown : undefined;
  const own = known?.field !== undefined && known.field !== 'file' && known.field !== 'key';
  return new AppError({
    code: known?.code ?? 'ingest.fetch.failed',
    status: known?.status ?? 500,
    message: known?.message ?? 'the file could not be read, and too many attempts were made',
    field: own ? known.field : field,
    retry: false,
    cause: thrown,
  });
}

function provenanceOf({ item }: FetchRow) {
  return {
    source_url: item.url ?? null,
    collected_at: item.collected_at ?? null,
    licence: item.licence ?? null,
    consent: item.consent ?? null,
  };
}

import { intakeDocument, intakeImage } from '@tuneloop/contracts/ingest/events';
import { category, fileName } from '@tuneloop/contracts/ingest/http';
import { isKeyOfProject } from '@tuneloop/runtime/blobs/blobStore';
import { AppError } from '@tuneloop/runtime/errors';
import { defineIntake } from '@tuneloop/runtime/inbox/intake';
import type { Tx } from '@tuneloop/runtime/pg/database';
import type { z } from 'zod';
import type { IngestContext } from '../config.ts';
import { INTAKE_CONSUMERS } from '../store/deadLetters.ts';
import { type DocumentSubmission, type ImageSubmission, insertFetches, type NewFetch } from '../store/fetches.ts';
import { isErased } from '../store/tombstones.ts';
import { sessionOf } from '../usecases/storeImage.ts';

/** Pictures submitted from outside: checked here, read and stored by the fetcher. */
export function onImageSubmitted(wake: () => void) {
  return defineIntake<typeof intakeImage, IngestContext>({
    name: INTAKE_CONSUMERS.image,
    kind: 'image',
    schema: intakeImage,
    handle: async (tx, event) => {
      checkText(category, event.data.category, 'category');
      const { id, actor, data } = event;
      await take(tx, wake, { id, kind: 'image', origin: 'intake', ...senderOf(actor, data), item: data });
    },
  });
}

export function onDocumentSubmitted(wake: () => void) {
  return defineIntake<typeof intakeDocument, IngestContext>({
    name: INTAKE_CONSUMERS.document,
    kind: 'document',
    schema: intakeDocument,
    handle: async (tx, event) => {
      checkText(fileName, event.data.name, 'name');
      const { id, actor, data } = event;
      await take(tx, wake, { id, kind: 'document', origin: 'intake', ...senderOf(actor, data), item: data });
    },
  });
}

function senderOf(actor: string | null, data: ImageSubmission | DocumentSubmission) {
  return { session_id: data.session_id ?? null, actor: actor ?? 'intake' };
}

async function take(tx: Tx, wake: () => void, fetch: NewFetch): Promise<void> {
  // A copy of what was erased does not bring it back.
  if (await isErased(tx, 'intake', fetch.id)) return;
  const { item } = fetch;
  if (item.storage_key !== undefined && !isKeyOfProject(item.storage_key, tx.projectId ?? '')) {
    throw refused('storage_key', 'is not the key of a blob of this project');
  }
  if (item.url !== undefined && !/^https?:/i.test(item.url)) throw refused('url', 'must be an http or https URL');
  if (item.inline === '') throw refused('inline', 'is empty');
  if (fetch.session_id !== null) await sessionOf(tx, fetch.session_id);
  await insertFetches(tx, [fetch]);
  tx.afterCommit(wake);
}

/** What becomes part of a path goes by the same rule as over HTTP. */
function checkText(schema: z.ZodType<string>, value: string, field: string): void {
  const result = schema.safeParse(value);
  if (!result.success) throw refused(field, result.error.issues[0]?.message ?? 'is not valid');
}

function refused(field: string, message: string): AppError {
  return new AppError({ code: 'intake.invalid', status: 400, message: `${field} ${message}`, field, retry: false });
}

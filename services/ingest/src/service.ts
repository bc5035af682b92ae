import { projectHandler } from '@tuneloop/runtime/projects';
import { defineService } from '@tuneloop/runtime/service';
import sharp from 'sharp';
import { configSchema } from './config.ts';
import { onDocumentSubmitted, onImageSubmitted } from './events/onItemSubmitted.ts';
import { sessionHandlers } from './events/onResponses.ts';
import { mountDocuments } from './http/documents.ts';
import { mountErasures } from './http/erasures.ts';
import { ImageAddresses } from './http/imageAddress.ts';
import { mountImages } from './http/images.ts';
import { FormReader } from './http/readForm.ts';
import { mountSessions } from './http/sessions.ts';
import { mountUpload } from './http/upload.ts';
import { Fetcher } from './jobs/fetcher.ts';
import { Reader } from './jobs/reader.ts';
import { Sweeper } from './jobs/sweeper.ts';
import type { IngestParts } from './parts.ts';
import { PictureReader } from './pictures.ts';

export const ingestService = defineService({
  name: 'ingest',
  migrations: new URL('../migrations/', import.meta.url),
  config: configSchema,
  create(ctx) {
    // One thread a picture: how many are at work at a time is the reader's to say. Nothing is read twice, so no cache.
    sharp.concurrency(1);
    sharp.cache(false);
    const pictures = new PictureReader(ctx.config.PICTURE_CONCURRENCY);
    const reader = new Reader(ctx);
    const parts: IngestParts = {
      ctx,
      forms: new FormReader(),
      pictures,
      fetcher: new Fetcher(ctx, pictures, () => reader.wake()),
      reader,
      addresses: new ImageAddresses(ctx),
      sweeper: new Sweeper(ctx),
    };
    const wake = () => parts.fetcher.wake();
    return {
      routes(app) {
        mountUpload(app, parts);
        mountImages(app, parts);
        mountDocuments(app, parts);
        mountErasures(app, parts);
        mountSessions(app, parts);
      },
      readsForms: true,
      handlers: [projectHandler(), onImageSubmitted(wake), onDocumentSubmitted(wake), ...sessionHandlers()],
      jobs: [parts.fetcher, reader, parts.sweeper],
    };
  },
});

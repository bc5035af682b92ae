import { projectHandler } from '@tuneloop/runtime/projects';
import { defineService } from '@tuneloop/runtime/service';
import sharp from 'sharp';
import { configSchema } from './config.ts';
import { ImageAddresses } from './http/imageAddress.ts';
import { mountImages } from './http/images.ts';
import { FormReader } from './http/readForm.ts';
import { mountSessions } from './http/sessions.ts';
import { mountUpload } from './http/upload.ts';
import { BlobSweeper } from './jobs/blobSweeper.ts';
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
    const parts: IngestParts = {
      ctx,
      forms: new FormReader(),
      pictures: new PictureReader(ctx.config.PICTURE_CONCURRENCY),
      addresses: new ImageAddresses(ctx),
      sweeper: new BlobSweeper(ctx),
    };
    return {
      routes(app) {
        mountUpload(app, parts);
        mountImages(app, parts);
        mountSessions(app, parts);
      },
      handlers: [projectHandler()],
      jobs: [parts.sweeper],
    };
  },
});

import { projectHandler } from '@tuneloop/runtime/projects';
import { defineService } from '@tuneloop/runtime/service';
import { configSchema } from './config.ts';
import { mountResponses } from './http/responses.ts';
import { mountRecords } from './http/records.ts';
import { mountRftResponses } from './http/rftResponses.ts';

export const responsesService = defineService({
  name: 'responses',
  migrations: new URL('../migrations/', import.meta.url),
  config: configSchema,
  create() {
    return {
      routes(app, ctx) {
        mountRftResponses(app, ctx);
        mountResponses(app, ctx);
        mountRecords(app, ctx);
      },
      handlers: [projectHandler()],
    };
  },
});

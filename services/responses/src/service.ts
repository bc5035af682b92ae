import { projectHandler } from '@tuneloop/runtime/projects';
import { defineService } from '@tuneloop/runtime/service';
import { configSchema } from './config.ts';
import type { ChatDependencies } from './egress/chatCompletion.ts';
import { Providers } from './egress/providers.ts';
import { Router } from './egress/router.ts';
import { onCheckpointCreated } from './events/onCheckpointCreated.ts';
import { onDeploymentChanged } from './events/onDeploymentChanged.ts';
import { mountChat } from './http/chat.ts';
import { mountGenerate } from './http/generate.ts';
import { mountModelAliases } from './http/modelAliases.ts';
import { mountModels } from './http/models.ts';
import { mountRecords } from './http/records.ts';
import { mountResponses } from './http/responses.ts';
import { mountRftResponses } from './http/rftResponses.ts';
import { createSweeper } from './jobs/sweeper.ts';

export const responsesService = defineService({
  name: 'responses',
  migrations: new URL('../migrations/', import.meta.url),
  config: configSchema,
  create(ctx) {
    const providers = new Providers(ctx.config, ctx.base.TUNELOOP_SECRET, ctx.log);
    const deps: ChatDependencies = { ctx, providers, router: new Router(ctx, providers) };
    return {
      routes(app) {
        mountRftResponses(app, ctx);
        mountResponses(app, ctx);
        mountRecords(app, ctx);
        mountChat(app, deps);
        mountModels(app, deps);
        mountModelAliases(app, deps);
        mountGenerate(app, deps);
      },
      handlers: [projectHandler(), onDeploymentChanged(), onCheckpointCreated()],
      jobs: [createSweeper(ctx), { name: 'providers', start: () => undefined, stop: () => providers.close() }],
    };
  },
});

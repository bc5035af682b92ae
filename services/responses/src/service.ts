import { projectHandler } from '@tuneloop/runtime/projects';
import { defineService } from '@tuneloop/runtime/service';
import { configSchema } from './config.ts';
import type { ChatDependencies } from './egress/chatCompletion.ts';
import { Providers } from './egress/providers.ts';
import { Router } from './egress/router.ts';
import { onCheckpointCreated } from './events/onCheckpointCreated.ts';
import { onDeploymentChanged } from './events/onDeploymentChanged.ts';
import { onImageUploaded } from './events/onImageUploaded.ts';
import { onItemErased } from './events/onItemErased.ts';
import { mountChat } from './http/chat.ts';
import { mountGenerate } from './http/generate.ts';
import { mountModelAliases } from './http/modelAliases.ts';
import { mountModels } from './http/models.ts';
import { mountPrompts } from './http/prompts.ts';
import { mountPromptTemplates } from './http/promptTemplates.ts';
import { mountRecords } from './http/records.ts';
import { mountResponses } from './http/responses.ts';
import { mountRftResponses } from './http/rftResponses.ts';
import { createGenerationPool } from './jobs/generation.ts';
import { createSweeper } from './jobs/sweeper.ts';

export const responsesService = defineService({
  name: 'responses',
  migrations: new URL('../migrations/', import.meta.url),
  config: configSchema,
  create(ctx) {
    const providers = new Providers(ctx.config, ctx.base.TUNELOOP_SECRET, ctx.log);
    const deps: ChatDependencies = { ctx, providers, router: new Router(ctx, providers) };
    const pool = createGenerationPool(deps);
    const wake = (): void => pool.wake();
    return {
      routes(app) {
        // After the last request has been answered; jobs have stopped by then.
        app.addHook('onClose', () => providers.close());
        mountRftResponses(app, ctx);
        mountResponses(app, ctx);
        mountRecords(app, ctx);
        mountChat(app, deps);
        mountModels(app, deps);
        mountModelAliases(app, deps);
        mountGenerate(app, deps);
        mountPrompts(app, ctx, wake);
        mountPromptTemplates(app, ctx);
      },
      handlers: [projectHandler(), onDeploymentChanged(), onCheckpointCreated(), onImageUploaded(wake), onItemErased()],
      jobs: [createSweeper(ctx), { name: 'generation', start: () => pool.start(), stop: () => pool.stop() }],
    };
  },
});

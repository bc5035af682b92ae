import { generate, serveModelReady } from '@tuneloop/contracts/responses/internal';
import type { HttpApp } from '@tuneloop/runtime/http/app';
import { mountRoute } from '@tuneloop/runtime/http/mountRoute';
import type { ChatDependencies } from '../egress/chatCompletion.ts';
import { generateItems, toTarget } from '../egress/generateItems.ts';
import { immutableName } from '../domain/target.ts';

/** The egress for other services: evaluation, judges, pair generation. */
export function mountGenerate(app: HttpApp, deps: ChatDependencies): void {
  mountRoute(
    app,
    deps.ctx,
    generate,
    async ({ body, auth, signal, correlationId }) => ({
      items: await generateItems(deps, { body, auth, signal, correlationId }),
    }),
    { transaction: false },
  );

  mountRoute(
    app,
    deps.ctx,
    serveModelReady,
    async ({ body, auth }) => {
      const target = toTarget(deps.providers, body.target);
      await deps.providers.preload(target, auth.projectId);
      return { ready: true, model: immutableName(target) };
    },
    { transaction: false },
  );
}

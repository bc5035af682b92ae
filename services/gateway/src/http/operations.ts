import { listDeadLetters, settleDeadLetterPublic, whyRun } from '@tuneloop/contracts/gateway/http';
import { operationsRoutes } from '@tuneloop/contracts/operations';
import { SERVICES, type ServiceName } from '@tuneloop/contracts/services';
import { describeError } from '@tuneloop/runtime/errors';
import type { HttpApp } from '@tuneloop/runtime/http/app';
import { mountRoute } from '@tuneloop/runtime/http/mountRoute';
import type { GatewayContext } from '../config.ts';
import { audit } from '../store/auditLog.ts';

/** What operators ask of all services at once. A service that does not answer is named, not hidden. */
export function mountGatewayOperations(app: HttpApp, ctx: GatewayContext): void {
  mountRoute(
    app,
    ctx,
    listDeadLetters,
    async ({ query, auth, log }) => {
      const unavailable: ServiceName[] = [];
      const asked = query.service === undefined ? SERVICES : [query.service];
      const pages = await Promise.all(
        asked.map(async (service) => {
          try {
            const answer = await ctx.callers.call(
              operationsRoutes(service).deadLetters,
              { query: { status: query.status, limit: query.limit } },
              { projectId: auth.projectId, actor: auth.actor },
            );
            return answer.data;
          } catch (error) {
            log.warn({ service, reason: describeError(error) }, 'dead letters not readable');
            unavailable.push(service);
            return [];
          }
        }),
      );
      const data = pages.flat().toSorted((a, b) => b.created_at.localeCompare(a.created_at));
      return { data: data.slice(0, query.limit), unavailable };
    },
    { transaction: false },
  );

  mountRoute(app, ctx, settleDeadLetterPublic, async ({ params, auth, tx }) => {
    const settled = await ctx.callers.call(
      operationsRoutes(params.service).settleDeadLetter,
      { body: { id: params.id, action: params.action } },
      { projectId: auth.projectId, actor: auth.actor },
    );
    await audit(tx, {
      actor: auth.actor,
      action: `dead_letter.${params.action}`,
      subject: params.id,
      detail: { service: params.service },
    });
    return settled;
  });

  mountRoute(
    app,
    ctx,
    whyRun,
    async ({ params, auth }) => {
      const parts = await Promise.all(
        SERVICES.map((service) =>
          ctx.callers.call(
            operationsRoutes(service).timeline,
            { query: { correlation_id: params.id } },
            { projectId: auth.projectId, actor: auth.actor },
          ),
        ),
      );
      return { entries: parts.flatMap((part) => part.entries).toSorted((a, b) => a.at.localeCompare(b.at)) };
    },
    { transaction: false },
  );
}

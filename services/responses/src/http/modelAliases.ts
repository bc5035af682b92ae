import { deleteModelAlias, listModelAliases, putModelAlias } from '@tuneloop/contracts/responses/http';
import { badRequest, notFound } from '@tuneloop/runtime/errors';
import type { HttpApp } from '@tuneloop/runtime/http/app';
import { mountRoute } from '@tuneloop/runtime/http/mountRoute';
import type { ChatDependencies } from '../egress/chatCompletion.ts';
import { parseImmutableName } from '../domain/target.ts';
import { deleteAlias, listAliases, upsertAlias } from '../store/routing.ts';

export function mountModelAliases(app: HttpApp, { ctx, router, providers }: ChatDependencies): void {
  mountRoute(app, ctx, listModelAliases, async ({ query, tx }) => {
    const rows = await listAliases(tx, query.cursor, query.limit);
    return { data: rows, next_cursor: rows.length === query.limit ? rows.at(-1)!.alias : null };
  });

  mountRoute(app, ctx, putModelAlias, async ({ params, body, tx }) => {
    const { alias } = params;
    const { target } = body;
    if (parseImmutableName(alias)) {
      throw badRequest(
        'responses.alias.reserved',
        `alias "${alias}" names exact weights already: choose another name`,
        'alias',
      );
    }
    if (target.kind === 'upstream' && !providers.hasUpstream) {
      throw badRequest(
        'responses.alias.no_upstream',
        'target.kind upstream needs UPSTREAM_BASE_URL to be set',
        'target.kind',
      );
    }
    const row = await upsertAlias(tx, alias, target);
    // What the alias stands for must be there: an unknown base or checkpoint rolls the alias back.
    if (target.kind === 'base')
      await router.resolve(tx, { model: `${target.model}:base`, slot: undefined, user: null });
    if (target.kind === 'checkpoint') await router.resolve(tx, { model: alias, slot: undefined, user: null });
    return row;
  });

  mountRoute(app, ctx, deleteModelAlias, async ({ params, tx }) => {
    if (await deleteAlias(tx, params.alias)) return { alias: params.alias, deleted: true };
    throw notFound('responses.alias.not_found', `There is no alias ${params.alias}`);
  });
}

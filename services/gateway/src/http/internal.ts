import { bootstrapProject, getProjectInternal, verifyKey } from '@tuneloop/contracts/gateway/internal';
import { apiKeyId, keyedHashMatches } from '@tuneloop/runtime/auth/apiKeys';
import { scopesOfRole } from '@tuneloop/runtime/auth/auth';
import type { KeyLookup } from '@tuneloop/runtime/auth/keyVerification';
import { AppError, notFound } from '@tuneloop/runtime/errors';
import type { HttpApp } from '@tuneloop/runtime/http/app';
import { mountRoute } from '@tuneloop/runtime/http/mountRoute';
import type { Database } from '@tuneloop/runtime/pg/database';
import type { BaseConfig } from '@tuneloop/runtime/service';
import type { GatewayContext } from '../config.ts';
import { findKeyOwner } from '../store/apiKey.ts';
import { findProject, findProjectIdBySlug, insertProject } from '../store/project.ts';
import { issueKey, keyPepper } from './access.ts';
import { emitProjectChanged } from './projectEvents.ts';

/** Keys are looked up here for the gateway itself and, over HTTP, for every other service. */
export function keyLookup(pg: Database, base: BaseConfig): KeyLookup {
  const pepper = keyPepper(base.TUNELOOP_SECRET);
  return async (key) => {
    const id = apiKeyId(key);
    if (id === undefined) return { valid: false };
    const owner = await pg.withService((tx) => findKeyOwner(tx, id));
    if (!owner || owner.revoked_at !== null || !keyedHashMatches(pepper, key, owner.hash)) return { valid: false };
    return {
      valid: true,
      project_id: owner.project_id,
      key_id: id,
      scopes: [...scopesOfRole(owner.role)],
      role: owner.role,
      expires_at: owner.expires_at?.toISOString() ?? null,
    };
  };
}

export function mountInternal(app: HttpApp, ctx: GatewayContext): void {
  const lookup = keyLookup(ctx.pg, ctx.base);
  mountRoute(app, ctx, verifyKey, async ({ body }) => lookup(body.key), { transaction: false });

  mountRoute(
    app,
    ctx,
    getProjectInternal,
    async ({ params }) =>
      ctx.pg.withTenant(params.id, async (tx) => {
        const row = await findProject(tx);
        if (!row) throw notFound('gateway.project.not_found', `There is no project ${params.id}.`);
        const { project_id, slug, name, version, settings } = row;
        return { project_id, slug, name, version, settings };
      }),
    { transaction: false },
  );

  mountRoute(
    app,
    ctx,
    bootstrapProject,
    async ({ body, auth }) =>
      ctx.pg.withTenant(
        body.project_id,
        async (tx) => {
          const holder = await findProjectIdBySlug(tx, body.slug);
          if (holder !== null && holder !== body.project_id) {
            throw new AppError({
              code: 'gateway.project.slug_taken',
              status: 409,
              message: `The slug "${body.slug}" belongs to another project.`,
              field: 'slug',
            });
          }
          const made = await insertProject(tx, { slug: body.slug, name: body.name, settings: body.settings });
          if (made) await emitProjectChanged(tx, made);
          const key = body.make_key
            ? await issueKey(tx, ctx, { name: body.key_name, role: 'owner', createdBy: auth.actor, expiresAt: null })
            : null;
          return { project_id: body.project_id, created: made !== undefined, api_key: key?.key ?? null };
        },
        { actor: auth.actor },
      ),
    { transaction: false },
  );
}

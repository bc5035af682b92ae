import { createHash } from 'node:crypto';
import {
  createApiKey,
  createNatsCredentials,
  getMe,
  getProject,
  jwks,
  listApiKeys,
  listAuditLog,
  revokeApiKey,
  updateProject,
} from '@tuneloop/contracts/gateway/http';
import { INTAKE_KINDS, intakeSubject } from '@tuneloop/contracts/ingest/events';
import { deriveBytes, deriveSigningKey } from '@tuneloop/runtime/auth/keys';
import { keyedHash, newApiKey } from '@tuneloop/runtime/auth/apiKeys';
import { scopesOfRole } from '@tuneloop/runtime/auth/auth';
import { buildJwks } from '@tuneloop/runtime/auth/jwks';
import { signProjectUser } from '@tuneloop/runtime/bus/natsCredentials';
import { AppError, notFound } from '@tuneloop/runtime/errors';
import type { HttpApp } from '@tuneloop/runtime/http/app';
import { etagOf, requireIfMatch } from '@tuneloop/runtime/http/etag';
import { mountRoute } from '@tuneloop/runtime/http/mountRoute';
import type { Tx } from '@tuneloop/runtime/pg/database';
import type { GatewayContext } from '../config.ts';
import { type ApiKeyRow, insertApiKey, listKeys, type Role, revokeKey } from '../store/apiKey.ts';
import { audit, listAudit } from '../store/auditLog.ts';
import { findProject, lockProject, type ProjectRow, updateProjectRow } from '../store/project.ts';
import { emitProjectChanged } from './projectEvents.ts';

/** The pepper of key hashes is not the installation's secret itself. */
export function keyPepper(secret: string): Buffer {
  return deriveBytes(secret, 'api-key-hash');
}

/** Makes and stores a key in the transaction; the whole key is only in what this returns. */
export async function issueKey(
  tx: Tx,
  ctx: GatewayContext,
  options: { name: string; role: Role; createdBy: string; expiresAt: Date | null },
): Promise<{ row: ApiKeyRow; key: string }> {
  const { id, key } = newApiKey();
  const row = await insertApiKey(tx, {
    id,
    name: options.name,
    role: options.role,
    created_by: options.createdBy,
    expires_at: options.expiresAt,
    hash: keyedHash(keyPepper(ctx.base.TUNELOOP_SECRET), key),
  });
  await audit(tx, { actor: options.createdBy, action: 'api_key.created', subject: id, detail: { role: options.role } });
  return { row, key };
}

function keyBody(row: ApiKeyRow) {
  return { ...row, scopes: [...scopesOfRole(row.role)] };
}

function projectBody(row: ProjectRow) {
  const { project_id: id, slug, name, version, settings, updated_at } = row;
  return { id, slug, name, version, settings, updated_at };
}

async function currentProject(tx: Tx): Promise<ProjectRow> {
  const row = await findProject(tx);
  if (!row) throw notFound('gateway.project.not_found', 'The project of these credentials does not exist.');
  return row;
}

export function mountAccess(app: HttpApp, ctx: GatewayContext): void {
  mountRoute(app, ctx, getMe, async ({ auth, tx }) => {
    const row = await currentProject(tx);
    return {
      project_id: row.project_id,
      project: { slug: row.slug, name: row.name },
      actor: auth.actor,
      role: auth.role,
      scopes: [...auth.scopes],
    };
  });

  mountRoute(app, ctx, getProject, async ({ tx, reply }) => {
    const row = await currentProject(tx);
    void reply.header('etag', etagOf(row.version));
    return projectBody(row);
  });

  mountRoute(app, ctx, updateProject, async ({ body, auth, tx, raw, reply }) => {
    const row = await lockProject(tx);
    if (!row) throw notFound('gateway.project.not_found', 'The project of these credentials does not exist.');
    requireIfMatch(raw, etagOf(row.version));
    const changes = Object.fromEntries(Object.entries(body.settings ?? {}).filter(([, value]) => value !== undefined));
    const stored = await updateProjectRow(tx, {
      name: body.name ?? row.name,
      settings: { ...row.settings, ...changes },
    });
    await emitProjectChanged(tx, stored);
    await audit(tx, {
      actor: auth.actor,
      action: 'project.updated',
      subject: stored.project_id,
      detail: { changed: Object.keys(changes) },
    });
    void reply.header('etag', etagOf(stored.version));
    return projectBody(stored);
  });

  mountRoute(app, ctx, createApiKey, async ({ body, auth, tx }) => {
    const expiresAt = body.expires_at === undefined ? null : new Date(body.expires_at);
    if (expiresAt !== null && expiresAt <= ctx.clock()) {
      throw new AppError({
        code: 'gateway.api_key.expired',
        status: 400,
        message: 'expires_at lies in the past. Leave it out for a key without expiry.',
        field: 'expires_at',
      });
    }
    const { row, key } = await issueKey(tx, ctx, {
      name: body.name,
      role: body.role,
      createdBy: auth.actor,
      expiresAt,
    });
    // In the fragment the key never reaches a server's log.
    return { ...keyBody(row), key, review_path: `/review#key=${key}` };
  });

  mountRoute(app, ctx, listApiKeys, async ({ query, tx }) => {
    const rows = await listKeys(tx, query.limit, query.cursor);
    return { data: rows.map((row) => keyBody(row)), next_cursor: rows.length === query.limit ? rows.at(-1)!.id : null };
  });

  mountRoute(app, ctx, revokeApiKey, async ({ params, auth, tx }) => {
    const row = await revokeKey(tx, params.id);
    if (!row) throw notFound('gateway.api_key.not_found', `There is no key ${params.id}.`);
    await audit(tx, { actor: auth.actor, action: 'api_key.revoked', subject: params.id });
    return keyBody(row);
  });

  mountRoute(app, ctx, createNatsCredentials, async ({ body, auth, tx }) => {
    if (ctx.config.NATS_ACCOUNT_SEED === undefined) {
      throw new AppError({
        code: 'gateway.nats.no_account_seed',
        status: 409,
        message: 'This installation cannot sign NATS users: set NATS_ACCOUNT_SEED to the seed of the intake account.',
      });
    }
    const user = await signProjectUser({
      accountSeed: ctx.config.NATS_ACCOUNT_SEED,
      projectId: auth.projectId,
      ttlSeconds: body.ttl_seconds,
    });
    await audit(tx, {
      actor: auth.actor,
      action: 'nats_credentials.signed',
      subject: createHash('sha256').update(user.jwt).digest('hex').slice(0, 16),
      detail: { ttl_seconds: body.ttl_seconds },
    });
    return {
      url: ctx.config.NATS_PUBLIC_URL ?? ctx.base.NATS_URL,
      creds: user.creds,
      inbox_prefix: user.inboxPrefix,
      expires_at: new Date(user.expiresAt),
      subjects: INTAKE_KINDS.map((kind) => intakeSubject(auth.projectId, kind)),
      rejects: `rejects.${auth.projectId}.>`,
    };
  });

  mountRoute(app, ctx, listAuditLog, async ({ query, tx }) => {
    const rows = await listAudit(tx, query.limit, query.cursor);
    return { data: rows, next_cursor: rows.length === query.limit ? rows.at(-1)!.id : null };
  });

  const document = buildJwks([
    deriveSigningKey(ctx.base.TUNELOOP_SECRET, 'gateway'),
    deriveSigningKey(ctx.base.TUNELOOP_SECRET, 'service'),
  ]);
  mountRoute(app, ctx, jwks, async () => ({ keys: document.keys.map((key) => ({ ...key })) }), { transaction: false });
}

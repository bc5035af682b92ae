import {
  freezeFile as freezeFileRoute,
  getDatasetVersionInternal,
  getErasureInternal,
  streamDatasetRows,
  streamTestPrompts,
} from '@tuneloop/contracts/datasets/internal';
import { type AppError, notFound } from '@tuneloop/runtime/errors';
import type { HttpApp } from '@tuneloop/runtime/http/app';
import { mountRoute } from '@tuneloop/runtime/http/mountRoute';
import type { Tx } from '@tuneloop/runtime/pg/database';
import type { DatasetsContext } from '../config.ts';
import { isErased } from '../store/documents.ts';
import { findTouchedVersions } from '../store/erasures.ts';
import { findVersionById, type VersionRow } from '../store/versions.ts';
import { freezeFile } from '../usecases/freezeFile.ts';
import { streamExamples, streamPrompts } from './lines.ts';
import { versionBody } from './mapping.ts';

/** What the trainer reads. */
export function mountInternal(app: HttpApp, ctx: DatasetsContext): void {
  mountRoute(app, ctx, getDatasetVersionInternal, async ({ params, tx }) =>
    versionBody(await requireVersion(tx, params.id)),
  );

  mountRoute(app, ctx, getErasureInternal, async ({ params, tx }) => ({
    handled: (await isErased(tx, 'image', params.id)) || (await isErased(tx, 'document', params.id)),
    versions: await findTouchedVersions(tx, params.id),
  }));

  mountRoute(app, ctx, freezeFileRoute, async ({ body, auth, tx }) =>
    versionBody(
      await freezeFile(tx, ctx, {
        trainingFile: body.training_file,
        validationFile: body.validation_file,
        method: body.method,
        requestedBy: auth.actor,
      }),
    ),
  );

  mountRoute(
    app,
    ctx,
    streamDatasetRows,
    async ({ params, query, tenant }) => {
      await tenant((tx) => requireVersion(tx, params.id));
      return streamExamples(tenant, params.id, query.split);
    },
    { transaction: false },
  );

  mountRoute(
    app,
    ctx,
    streamTestPrompts,
    async ({ params, tenant }) => {
      await tenant((tx) => requireVersion(tx, params.id));
      return streamPrompts(tenant, params.id);
    },
    { transaction: false },
  );
}

export async function requireVersion(tx: Tx, id: string): Promise<VersionRow> {
  const row = await findVersionById(tx, id);
  if (!row) throw versionNotFound(id);
  return row;
}

function versionNotFound(id: string): AppError {
  return notFound('datasets.version.not_found', `There is no dataset version ${id}.`);
}

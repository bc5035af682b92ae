import {
  createDataset,
  createDatasetVersion,
  getDataset,
  listDatasets as listDatasetsRoute,
  listDatasetVersions,
} from '@tuneloop/contracts/datasets/http';
import { AppError, badRequest, notFound } from '@tuneloop/runtime/errors';
import type { HttpApp } from '@tuneloop/runtime/http/app';
import { mountRoute } from '@tuneloop/runtime/http/mountRoute';
import { newId } from '@tuneloop/runtime/ids';
import type { Tx } from '@tuneloop/runtime/pg/database';
import type { DatasetsContext } from '../config.ts';
import { type DatasetOverview, findDataset, insertDataset, listDatasets } from '../store/datasets.ts';
import { listVersions } from '../store/versions.ts';
import { type Freezer, requestManualFreeze } from '../usecases/requestFreeze.ts';
import { idCursor, numberCursor } from './cursor.ts';
import { buildBody, datasetBody, publicVersionBody } from './mapping.ts';

export function mountDatasets(app: HttpApp, ctx: DatasetsContext, freezer: Freezer): void {
  mountRoute(app, ctx, listDatasetsRoute, async ({ query, tx }) => {
    const { limit, kind = null } = query;
    const rows = await listDatasets(tx, { limit, kind, before: idCursor(query.cursor) });
    return { data: rows.map(datasetBody), next_cursor: rows.length === limit ? rows.at(-1)!.id : null };
  });

  mountRoute(app, ctx, createDataset, async ({ body, auth, tx }) => {
    const { name, kind, slot } = body;
    requireSftOfDocuments(kind, body.spec);
    const id = newId();
    await insertDataset(tx, { id, name, kind, slot, source: 'manual', created_by: auth.actor });
    const spec = { ...body.spec, kind, slot };
    await requestManualFreeze(tx, freezer, { id: newId(), datasetId: id, spec, requestedBy: auth.actor });
    return datasetBody(await requireDataset(tx, id));
  });

  mountRoute(app, ctx, getDataset, async ({ params, tx }) => datasetBody(await requireDataset(tx, params.id)));

  mountRoute(app, ctx, createDatasetVersion, async ({ params, body, auth, tx }) => {
    const { id, kind, slot, source } = await requireDataset(tx, params.id);
    if (source === 'file') {
      throw new AppError({
        code: 'datasets.dataset.of_file',
        status: 409,
        message: 'This dataset was made of an uploaded file. Upload another file, or make a dataset from feedback.',
      });
    }
    requireSftOfDocuments(kind, body.spec);
    const spec = { ...body.spec, kind, slot };
    return buildBody(
      await requestManualFreeze(tx, freezer, { id: newId(), datasetId: id, spec, requestedBy: auth.actor }),
    );
  });

  mountRoute(app, ctx, listDatasetVersions, async ({ params, query, tx }) => {
    await requireDataset(tx, params.id);
    const rows = await listVersions(tx, params.id, query.limit, numberCursor(query.cursor));
    const next = rows.length === query.limit ? String(rows.at(-1)!.number) : null;
    return { data: rows.map(publicVersionBody), next_cursor: next };
  });
}

function requireSftOfDocuments(kind: string, spec: { readonly documents?: unknown }): void {
  if (spec.documents === undefined || kind === 'sft') return;
  throw badRequest(
    'datasets.documents.kind',
    `Documents make examples of kind sft, not ${kind}: ask for kind sft.`,
    'kind',
  );
}

async function requireDataset(tx: Tx, id: string): Promise<DatasetOverview> {
  const row = await findDataset(tx, id);
  if (!row) throw notFound('datasets.dataset.not_found', `There is no dataset ${id}.`);
  return row;
}

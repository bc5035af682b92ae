import {
  exportDatasetVersion,
  getDatasetVersion,
  getExampleLineage,
  listDatasetExamples,
} from '@tuneloop/contracts/datasets/http';
import { exampleRow, type ExampleRow } from '@tuneloop/contracts/datasets/internal';
import { AppError, notFound } from '@tuneloop/runtime/errors';
import type { HttpApp } from '@tuneloop/runtime/http/app';
import { mountRoute } from '@tuneloop/runtime/http/mountRoute';
import type { Tx } from '@tuneloop/runtime/pg/database';
import type { DatasetsContext } from '../config.ts';
import { exportLine } from '../domain/exportFormats.ts';
import { SPLIT_ORDER, type Split } from '../domain/splits.ts';
import { findChunkPlaces, findDocumentRows } from '../store/documents.ts';
import { findExampleLine, type LineRow, listLines } from '../store/versions.ts';
import { exampleCursor, invalidCursor } from './cursor.ts';
import { requireVersion } from './internal.ts';
import { streamExamples } from './lines.ts';
import { publicVersionBody } from './mapping.ts';

export function mountVersions(app: HttpApp, ctx: DatasetsContext): void {
  mountRoute(app, ctx, getDatasetVersion, async ({ params, tx }) =>
    publicVersionBody(await requireVersion(tx, params.id)),
  );

  mountRoute(app, ctx, listDatasetExamples, async ({ params, query, tx }) => {
    await requireVersion(tx, params.id);
    const after = exampleCursor(query.cursor);
    const page = await pageOfLines(tx, { versionId: params.id, split: query.split, after, limit: query.limit });
    const last = page.at(-1);
    return {
      data: page.map(({ row }) => parseExample(row.line)),
      next_cursor: last && page.length === query.limit ? `${last.split}.${last.row.ordinal}` : null,
    };
  });

  mountRoute(app, ctx, getExampleLineage, async ({ params, tx }) => {
    const version = await requireVersion(tx, params.id);
    const line = await findExampleLine(tx, version.id, params.example_id);
    if (line === undefined) {
      const message = `Version ${version.id} has no example ${params.example_id}.`;
      throw notFound('datasets.example.not_found', message);
    }
    const { id, split, group_key: groupKey, lineage } = parseExample(line);
    const { feedback_ids, response_ids, image_id } = lineage;
    return {
      example_id: id,
      dataset_id: version.dataset_id,
      dataset_version_id: version.id,
      content_hash: version.content_hash,
      split,
      group_key: groupKey,
      feedback_ids,
      response_ids,
      image_id,
      document: await documentOf(tx, lineage),
      query: version.query,
    };
  });

  mountRoute(
    app,
    ctx,
    exportDatasetVersion,
    async ({ params, query, tenant, reply }) => {
      const version = await tenant((tx) => requireVersion(tx, params.id));
      const { format, split } = query;
      if (format === 'trl-plain' && version.validation.stats.multi_message > 0) {
        throw new AppError({
          code: 'datasets.export.not_plain',
          status: 409,
          message: `${version.validation.stats.multi_message} examples are conversations and have no plain text form. Use format=trl.`,
          field: 'format',
        });
      }
      const name = `dataset-${version.dataset_id}-v${version.number}-${split}-${format}.jsonl`;
      void reply.header('content-disposition', `attachment; filename="${name}"`);
      return streamExamples(tenant, version.id, split, (line) => exportLine(format, version.kind, parseExample(line)));
    },
    { transaction: false },
  );
}

/** The document and the chunks of an example; a document that was read anew since has other chunks in their places. */
async function documentOf(tx: Tx, lineage: ExampleRow['lineage']) {
  if (lineage.document_id === undefined) return null;
  const [row] = await findDocumentRows(tx, [lineage.document_id]);
  if (!row) return null;
  const known = new Map((await findChunkPlaces(tx, lineage.chunk_ids ?? [])).map((chunk) => [chunk.id, chunk]));
  const { id, name, title, provenance } = row;
  const chunks = (lineage.chunk_ids ?? []).map(
    (chunkId) => known.get(chunkId) ?? { id: chunkId, ordinal: null, heading_path: [] },
  );
  return { id, name, title, provenance, chunks };
}

function parseExample(line: string) {
  return exampleRow.parse(JSON.parse(line));
}

/** The next lines after the cursor, over the splits in reading order. */
async function pageOfLines(
  tx: Tx,
  at: { versionId: string; split: Split | undefined; after: { split: Split; ordinal: number } | null; limit: number },
): Promise<{ split: Split; row: LineRow }[]> {
  const splits = at.split === undefined ? SPLIT_ORDER : [at.split];
  const from = at.after === null ? 0 : splits.indexOf(at.after.split);
  if (from < 0) throw invalidCursor();
  const page: { split: Split; row: LineRow }[] = [];
  for (const split of splits.slice(from)) {
    const after = at.after?.split === split ? at.after.ordinal : 0;
    const limit = at.limit - page.length;
    if (limit === 0) break;
    const rows = await listLines(tx, { versionId: at.versionId, split, after, limit });
    page.push(...rows.map((row) => ({ split, row })));
  }
  return page;
}

import { getErasureInternal } from '@tuneloop/contracts/datasets/internal';
import { getErasure } from '@tuneloop/contracts/ingest/documents';
import { findCheckpointsOfVersions } from '@tuneloop/contracts/trainer/internal';
import { notFound } from '@tuneloop/runtime/errors';
import type { HttpApp } from '@tuneloop/runtime/http/app';
import { mountRoute } from '@tuneloop/runtime/http/mountRoute';
import type { IngestParts } from '../parts.ts';
import { findTombstone } from '../store/tombstones.ts';

/** What an erasure touched, asked of those who know: nothing about an erased item is kept here but that it was one. */
export function mountErasures(app: HttpApp, { ctx }: IngestParts): void {
  mountRoute(
    app,
    ctx,
    getErasure,
    async ({ params, auth, tenant, signal }) => {
      const tombstone = await tenant((tx) => findTombstone(tx, params.id));
      if (!tombstone) throw notFound('ingest.erasure.not_found', `Nothing with the id ${params.id} was erased`);
      const call = { projectId: auth.projectId, signal };
      const { handled, versions } = await ctx.callers.call(getErasureInternal, { params }, call);
      const body = { dataset_version_ids: versions.map((version) => version.id) };
      const checkpoints =
        versions.length === 0 ? [] : (await ctx.callers.call(findCheckpointsOfVersions, { body }, call)).data;
      return {
        id: params.id,
        kind: tombstone.kind,
        erased_at: tombstone.erased_at,
        complete: handled,
        dataset_versions: versions,
        checkpoints,
      };
    },
    { transaction: false },
  );
}

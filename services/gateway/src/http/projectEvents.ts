import { projectChanged } from '@tuneloop/contracts/gateway/events';
import { emit } from '@tuneloop/runtime/outbox/emit';
import type { Tx } from '@tuneloop/runtime/pg/database';
import type { ProjectRow } from '../store/project.ts';

/** Tells every service the whole of what it needs of a project. */
export async function emitProjectChanged(tx: Tx, row: ProjectRow): Promise<void> {
  await emit(tx, projectChanged, {
    subject: row.project_id,
    aggregateVersion: row.version,
    data: { project_id: row.project_id, slug: row.slug, name: row.name, version: row.version, settings: row.settings },
  });
}

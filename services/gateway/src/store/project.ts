import type { projectChanged } from '@tuneloop/contracts/gateway/events';
import type { Tx } from '@tuneloop/runtime/pg/database';
import type { z } from 'zod';

export type Settings = z.output<typeof projectChanged.schema>['settings'];

export interface ProjectRow {
  project_id: string;
  slug: string;
  name: string;
  version: number;
  settings: Settings;
  updated_at: Date;
}

export async function findProject(tx: Tx): Promise<ProjectRow | undefined> {
  return tx.one<ProjectRow>('SELECT * FROM projects WHERE project_id = $1', [tx.projectId]);
}

export async function lockProject(tx: Tx): Promise<ProjectRow | undefined> {
  return tx.one<ProjectRow>('SELECT * FROM projects WHERE project_id = $1 FOR UPDATE', [tx.projectId]);
}

export async function findProjectIdBySlug(tx: Tx, slug: string): Promise<string | null> {
  const row = await tx.one<{ id: string | null }>('SELECT find_project_by_slug($1) AS id', [slug]);
  return row?.id ?? null;
}

/** Undefined when the project is there already. */
export async function insertProject(
  tx: Tx,
  row: Pick<ProjectRow, 'slug' | 'name' | 'settings'>,
): Promise<ProjectRow | undefined> {
  return tx.one<ProjectRow>(
    `INSERT INTO projects (project_id, slug, name, version, settings) VALUES ($1, $2, $3, 1, $4)
     ON CONFLICT (project_id) DO NOTHING RETURNING *`,
    [tx.projectId, row.slug, row.name, JSON.stringify(row.settings)],
  );
}

export async function updateProjectRow(tx: Tx, row: Pick<ProjectRow, 'name' | 'settings'>): Promise<ProjectRow> {
  const stored = await tx.one<ProjectRow>(
    `UPDATE projects SET name = $2, settings = $3, version = version + 1, updated_at = now()
     WHERE project_id = $1 RETURNING *`,
    [tx.projectId, row.name, JSON.stringify(row.settings)],
  );
  return stored!;
}

import type { Tx } from '@tuneloop/runtime/pg/database';
import { DEFAULT_CATEGORY, DEFAULT_TEMPLATES } from '../domain/template.ts';

export interface TemplateRow {
  readonly category: string;
  readonly version: number;
  readonly body: string;
  readonly system: string | null;
  readonly edited: boolean;
  readonly updated_at: Date;
}

const COLUMNS = 'category, version, body, system, edited, updated_at';

/** Makes the default templates of a project that has none of its own; what people edited stays. */
async function insertDefaultTemplates(tx: Tx): Promise<void> {
  const defaults = Object.entries(DEFAULT_TEMPLATES).map(([category, template]) => ({ category, ...template }));
  await tx.execute(
    `WITH made AS (
       INSERT INTO prompt_templates (project_id, category, body, system)
       SELECT $1, category, body, system FROM jsonb_to_recordset($2::jsonb) AS d(category text, body text, system text)
       ON CONFLICT DO NOTHING RETURNING project_id, category, version, body, system)
     INSERT INTO prompt_template_versions (project_id, category, version, body, system) SELECT * FROM made
     ON CONFLICT DO NOTHING`,
    [tx.projectId, JSON.stringify(defaults)],
  );
}

async function withDefaults<T>(tx: Tx, read: () => Promise<T | undefined>): Promise<T | undefined> {
  const found = await read();
  if (found !== undefined) return found;
  await insertDefaultTemplates(tx);
  return read();
}

/** The template for a category, else the general one. */
export async function templateFor(tx: Tx, category: string): Promise<TemplateRow> {
  const row = await withDefaults(tx, async () => {
    const rows = await tx.query<TemplateRow>(
      `SELECT ${COLUMNS} FROM prompt_templates WHERE project_id = $1 AND category = ANY ($2)`,
      [tx.projectId, [category, DEFAULT_CATEGORY]],
    );
    // Without the general row the defaults have not been made yet.
    if (!rows.some((found) => found.category === DEFAULT_CATEGORY)) return undefined;
    return rows.find((found) => found.category === category) ?? rows[0];
  });
  return row!;
}

export async function findTemplate(tx: Tx, category: string): Promise<TemplateRow | undefined> {
  const read = (): Promise<TemplateRow | undefined> =>
    tx.one<TemplateRow>(`SELECT ${COLUMNS} FROM prompt_templates WHERE project_id = $1 AND category = $2`, [
      tx.projectId,
      category,
    ]);
  return Object.hasOwn(DEFAULT_TEMPLATES, category) ? withDefaults(tx, read) : read();
}

export async function listTemplates(tx: Tx, after: string | undefined, limit: number): Promise<TemplateRow[]> {
  await templateFor(tx, DEFAULT_CATEGORY);
  return tx.query<TemplateRow>(
    `SELECT ${COLUMNS} FROM prompt_templates WHERE project_id = $1 AND ($2::text IS NULL OR category > $2)
     ORDER BY category LIMIT $3`,
    [tx.projectId, after ?? null, limit],
  );
}

/** Writes a new version; versions go on counting after a deletion. */
export async function putTemplate(
  tx: Tx,
  template: { category: string; body: string; system: string | null; edited: boolean },
): Promise<TemplateRow> {
  const row = await tx.one<TemplateRow>(
    `WITH next AS (
       SELECT coalesce(max(version), 0) + 1 AS version FROM prompt_template_versions
       WHERE project_id = $1 AND category = $2),
     kept AS (
       INSERT INTO prompt_template_versions (project_id, category, version, body, system)
       SELECT $1, $2, version, $3, $4 FROM next)
     INSERT INTO prompt_templates (project_id, category, version, body, system, edited)
     SELECT $1, $2, version, $3, $4, $5 FROM next
     ON CONFLICT (project_id, category) DO UPDATE SET version = EXCLUDED.version, body = EXCLUDED.body,
       system = EXCLUDED.system, edited = EXCLUDED.edited, updated_at = now()
     RETURNING ${COLUMNS}`,
    [tx.projectId, template.category, template.body, template.system, template.edited],
  );
  return row!;
}

export async function deleteTemplate(tx: Tx, category: string): Promise<void> {
  await tx.execute('DELETE FROM prompt_templates WHERE project_id = $1 AND category = $2', [tx.projectId, category]);
}

import { projectChanged } from '@tuneloop/contracts/gateway/events';
import { getProjectInternal } from '@tuneloop/contracts/gateway/internal';
import type { z } from 'zod';
import type { Callers } from './callers.ts';
import { defineHandler, type MessageHandler } from './inbox/handler.ts';
import type { Tx } from './pg/database.ts';

type ProjectState = z.output<typeof projectChanged.schema>;
export type ProjectSettings = ProjectState['settings'];

/** Every service but the gateway (whose own table is the truth) projects the projects' settings with this handler. */
export function projectHandler<Ctx>(): MessageHandler<Ctx, ProjectState> {
  return defineHandler({
    name: 'on_project_changed',
    event: projectChanged,
    handle: async (tx, event) => storeProject(tx, event.data),
  });
}

/** Settings of the transaction's project. Asks the gateway when the projection has not seen it yet. */
export async function projectSettings(tx: Tx, ctx: { readonly callers: Callers }): Promise<ProjectSettings> {
  return (await projectState(tx, ctx)).settings;
}

export async function projectState(
  tx: Tx,
  ctx: { readonly callers: Callers },
): Promise<{ readonly slug: string; readonly settings: ProjectSettings }> {
  const row = await tx.one<{ slug: string; settings: ProjectSettings }>(
    'SELECT slug, settings FROM projects WHERE project_id = $1',
    [tx.projectId],
  );
  if (row) return row;
  const projectId = tx.projectId;
  if (projectId === null) throw new Error('project settings are read inside a tenant transaction');
  const state = await ctx.callers.call(getProjectInternal, { params: { id: projectId } }, { projectId });
  await storeProject(tx, state);
  return state;
}

async function storeProject(tx: Tx, state: ProjectState): Promise<void> {
  await tx.execute(
    `INSERT INTO projects (project_id, slug, version, settings) VALUES ($1, $2, $3, $4)
     ON CONFLICT (project_id) DO UPDATE SET slug = EXCLUDED.slug, version = EXCLUDED.version,
       settings = EXCLUDED.settings, updated_at = now()
     WHERE projects.version < EXCLUDED.version`,
    [state.project_id, state.slug, state.version, JSON.stringify(state.settings)],
  );
}

import type { Tx } from '@tuneloop/runtime/pg/database';
import { mergedSplit, type Split } from '../domain/splits.ts';

export interface NewGroup {
  readonly groupKey: string;
  readonly split: Split;
}

/** Groups seen for the first time get their split; those that have one keep it. */
export async function insertGroups(tx: Tx, groups: readonly NewGroup[]): Promise<void> {
  await tx.execute(
    `INSERT INTO group_splits (project_id, group_key, own_split, root, split)
     SELECT $1, g.key, g.split, g.key, g.split FROM unnest($2::text[], $3::text[]) AS g(key, split)
     ORDER BY g.key COLLATE "C" ON CONFLICT DO NOTHING`,
    [tx.projectId, groups.map((group) => group.groupKey), groups.map((group) => group.split)],
  );
}

export async function hasGroup(tx: Tx, groupKey: string): Promise<boolean> {
  return (await tx.one('SELECT 1 FROM group_splits WHERE group_key = $1', [groupKey])) !== undefined;
}

/** Notes where a prompt was first seen. Returns the group that it is in: the given one, or an earlier. */
export async function claimPrompt(tx: Tx, promptLink: string, groupKey: string): Promise<string> {
  const inserted = await tx.execute(
    `INSERT INTO prompt_groups (project_id, prompt_link, group_key) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`,
    [tx.projectId, promptLink, groupKey],
  );
  if (inserted === 1) return groupKey;
  const row = await tx.one<{ group_key: string }>('SELECT group_key FROM prompt_groups WHERE prompt_link = $1', [
    promptLink,
  ]);
  return row?.group_key ?? groupKey;
}

/** As `claimPrompt`, for many prompts: link to group. */
export async function claimPrompts(
  tx: Tx,
  prompts: readonly { readonly promptLink: string; readonly groupKey: string }[],
): Promise<Map<string, string>> {
  const links = prompts.map((prompt) => prompt.promptLink);
  await tx.execute(
    `INSERT INTO prompt_groups (project_id, prompt_link, group_key)
     SELECT DISTINCT ON (p.link) $1::uuid, p.link, p.key FROM unnest($2::text[], $3::text[]) AS p(link, key)
     ORDER BY p.link, p.key ON CONFLICT DO NOTHING`,
    [tx.projectId, links, prompts.map((prompt) => prompt.groupKey)],
  );
  const rows = await tx.query<{ prompt_link: string; group_key: string }>(
    'SELECT prompt_link, group_key FROM prompt_groups WHERE prompt_link = ANY($1)',
    [links],
  );
  return new Map(rows.map((row) => [row.prompt_link, row.group_key]));
}

export interface GroupSplit {
  root: string;
  split: Split;
}

export async function findGroupSplits(tx: Tx, groupKeys: readonly string[]): Promise<Map<string, GroupSplit>> {
  const rows = await tx.query<GroupSplit & { group_key: string }>(
    'SELECT group_key, root, split FROM group_splits WHERE group_key = ANY($1)',
    [groupKeys],
  );
  return new Map(rows.map((row) => [row.group_key, row]));
}

/**
 * Makes two groups one. What comes out depends on which groups were ever joined, not on the order of joining: the
 * root is the least key of all, the split the strongest of all.
 */
export async function mergeGroups(tx: Tx, a: string, b: string): Promise<void> {
  // Joins are rare; one at a time per project keeps two of them from missing each other.
  await tx.execute('SELECT pg_advisory_xact_lock(hashtextextended($1, 0))', [`datasets.merge:${tx.projectId}`]);
  const groups = [...(await findGroupSplits(tx, [a, b])).values()];
  const roots = [...new Set(groups.map((group) => group.root))].toSorted(byCodePoint);
  if (roots.length < 2) return;
  await tx.execute('UPDATE group_splits SET root = $2, split = $3 WHERE root = ANY($1)', [
    roots,
    roots[0],
    mergedSplit(groups.map((group) => group.split)),
  ]);
}

/** The order of Postgres' "C" collation. */
function byCodePoint(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

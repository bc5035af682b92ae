import type { ResponseRecord } from '@tuneloop/contracts/responses/events';
import type { Tx } from '@tuneloop/runtime/pg/database';
import { projectSettings } from '@tuneloop/runtime/projects';
import type { DatasetsContext } from '../config.ts';
import { contextOf, promptKey, promptLink } from '../domain/prompts.ts';
import { drawSplit, type Split } from '../domain/splits.ts';
import { storableText } from '../domain/storable.ts';
import { claimPrompt, hasGroup, insertGroups, mergeGroups } from '../store/groups.ts';
import {
  insertResponse,
  lockResponse,
  type ProjectedResponse,
  setResponseGroup,
  updateResponse,
} from '../store/responses.ts';

/**
 * Takes one state of an answer into the read model. Any order and any number of deliveries of an answer's states end
 * the same: the highest version is kept, and every group that any state named is one group.
 */
export async function projectResponse(tx: Tx, ctx: DatasetsContext, record: ResponseRecord): Promise<void> {
  const row = projectedRow(record);
  await noteGroup(tx, ctx, row);
  if (await insertResponse(tx, row)) return;
  const known = await lockResponse(tx, row.id);
  if (!known) return;
  const moved = known.group_key !== null && known.group_key !== row.groupKey && row.purpose !== 'evaluation';
  if (moved) await mergeGroups(tx, known.group_key!, row.groupKey);
  if (known.deleted) {
    if (known.group_key === null) await setResponseGroup(tx, row.id, row.groupKey);
    return;
  }
  const completes = known.version === row.version && !known.complete && row.complete;
  if (known.version < row.version || completes) await updateResponse(tx, row);
}

/** What an owner's answer of its whole record adds: it is never a clipped one. */
export async function projectWholeResponse(tx: Tx, ctx: DatasetsContext, record: ResponseRecord): Promise<void> {
  await projectResponse(tx, ctx, { ...record, metadata: {} });
}

export function shareOf(
  projectId: string,
  groupKey: string,
  settings: { validation_share: number; test_share: number },
): Split {
  return drawSplit(projectId, groupKey, { validation: settings.validation_share, test: settings.test_share });
}

/** First sight of a group decides its split; a prompt known from another group makes the two one. */
async function noteGroup(tx: Tx, ctx: DatasetsContext, row: ProjectedResponse): Promise<void> {
  if (row.purpose === 'evaluation') return;
  if (!(await hasGroup(tx, row.groupKey))) {
    const settings = await projectSettings(tx, ctx);
    await insertGroups(tx, [{ groupKey: row.groupKey, split: shareOf(tx.projectId ?? '', row.groupKey, settings) }]);
  }
  if (row.promptLink === null) return;
  const first = await claimPrompt(tx, row.promptLink, row.groupKey);
  if (first !== row.groupKey) await mergeGroups(tx, first, row.groupKey);
}

function projectedRow(record: ResponseRecord): ProjectedResponse {
  const complete = record.metadata.clipped !== true;
  return {
    id: record.response_id,
    version: record.version,
    slot: record.slot,
    purpose: record.purpose,
    promptKey: promptKey(record),
    // The beginning of a prompt is not the prompt.
    promptLink: complete ? promptLink(record) : null,
    groupKey: storableText(record.group_key),
    context: contextOf(record),
    answer: record.response_text,
    facts: record.facts,
    imageId: record.image_id,
    complete,
    createdAt: record.created_at,
  };
}

import type { DocumentSource } from '@tuneloop/contracts/datasets/events';
import { AppError } from '@tuneloop/runtime/errors';
import { deterministicId, newId } from '@tuneloop/runtime/ids';
import type { Lease } from '@tuneloop/runtime/leases';
import type { Tx } from '@tuneloop/runtime/pg/database';
import { projectSettings } from '@tuneloop/runtime/projects';
import type { DatasetsContext } from '../config.ts';
import { autoExamples, defaultSystemPrompt, type DocumentExample, type SourceChunk } from '../domain/autoExamples.ts';
import { recipeOf, writtenExamples, type WrittenPairs } from '../domain/pairWriting.ts';
import { contextLink } from '../domain/prompts.ts';
import type { Split } from '../domain/splits.ts';
import {
  type ChunkChoice,
  countLeftOut,
  findPairs,
  listUsableChunks,
  lockErasures,
  type UsableChunk,
} from '../store/documents.ts';
import type { FreezeTask } from '../store/freezes.ts';
import { claimPrompts, findGroupSplits } from '../store/groups.ts';
import {
  beginVersion,
  insertExamples,
  insertTestPrompts,
  type NewExample,
  type VersionRow,
} from '../store/versions.ts';
import { closeVersion } from './closeVersion.ts';
import { groupOfCluster, syncDocuments } from './syncDocuments.ts';
import { type FailedChunk, writePairs } from './writePairs.ts';

const PAGE = 200;
const MAX_NAMED = 10;
const MAX_NAMED_FAILURES = 3;
type Mode = DocumentSource['mode'];

export interface PreparedDocuments {
  readonly choice: ChunkChoice;
  readonly failed: readonly string[];
  /** Null: no model is asked. */
  readonly recipe: string | null;
}

/** All that is slow and outside the version's transaction: the read model brought up to date, the examples written. */
export async function prepareDocuments(
  ctx: DatasetsContext,
  lease: Lease,
  source: DocumentSource,
): Promise<PreparedDocuments> {
  const { projectId, signal } = lease;
  const { ids, failed } = await syncDocuments(ctx, projectId, source, signal);
  const choice = { documentIds: ids, minQuality: source.min_quality, includeDuplicates: source.include_duplicates };
  const { mode, pairs_per_chunk: count } = source;
  if (mode === 'auto') return { choice, failed, recipe: null };
  const model = source.model ?? (await ctx.pg.withTenant(projectId, (tx) => projectSettings(tx, ctx))).model;
  const unwritten: FailedChunk[] = [];
  let chunks = 0;
  for (let after: Place | null = null; ; ) {
    const from: Place | null = after;
    const page: UsableChunk[] = await ctx.pg.withTenant(projectId, (tx) => listUsableChunks(tx, choice, from, PAGE));
    unwritten.push(...(await writePairs(ctx, projectId, page.map(sourceOf), { mode, count, model }, signal)));
    chunks += page.length;
    if (page.length < PAGE) break;
    after = placeOf(page.at(-1)!);
  }
  if (unwritten.length > 0) throw partFailed(unwritten, chunks);
  return { choice, failed, recipe: recipeOf(mode, count, model) };
}

interface Place {
  readonly documentId: string;
  readonly ordinal: number;
}

function placeOf(chunk: UsableChunk): Place {
  return { documentId: chunk.document_id, ordinal: chunk.ordinal };
}

function sourceOf(chunk: UsableChunk): SourceChunk {
  const { id, heading_path: headingPath, text, whole_section: wholeSection } = chunk;
  return { id, headingPath, text: text.trim(), wholeSection, documentName: chunk.title ?? chunk.name };
}

/** Never a version with holes: what was written is kept, and the next build asks for the rest only. */
function partFailed(failed: readonly FailedChunk[], chunks: number): AppError {
  const shown = failed.slice(0, MAX_NAMED_FAILURES).map(({ chunkId, reason }) => `${chunkId}: ${reason}`);
  const more = failed.length > shown.length ? ` (and ${failed.length - shown.length} more)` : '';
  return new AppError({
    code: 'datasets.documents.chunks_failed',
    status: 502,
    retry: false,
    message:
      `${failed.length} of ${chunks} chunks gave no usable examples: ${shown.join('; ')}${more}. ` +
      'Ask for the version again: what was written is kept, and only these are asked for; or leave them out by min_quality.',
  });
}

/** Writes the rows of a version from documents, in the order of documents and chunks, and closes it. */
export async function buildFromDocuments(
  tx: Tx,
  task: FreezeTask,
  source: DocumentSource,
  prepared: PreparedDocuments,
): Promise<VersionRow> {
  const { choice, failed } = prepared;
  const id = newId();
  await lockErasures(tx, 'shared');
  await beginVersion(tx, id);
  const writer = new DocumentWriter(tx, id, source.mode);
  for (let after: Place | null = null; ; ) {
    const page: UsableChunk[] = await listUsableChunks(tx, choice, after, PAGE);
    await writer.add(page, await examplesOf(tx, page, source, prepared.recipe));
    if (page.length < PAGE) break;
    after = placeOf(page.at(-1)!);
  }
  const unread = { reason: 'unread_document', count: failed.length, examples: failed.slice(0, MAX_NAMED) };
  const ambiguous = { reason: 'ambiguous_prompt', count: writer.ambiguous.length, examples: writer.ambiguous };
  const skipped = [...(await countLeftOut(tx, choice)), unread, ambiguous].filter(({ count }) => count > 0);
  return closeVersion(tx, {
    id,
    datasetId: task.dataset_id,
    kind: 'sft',
    spec: task.spec,
    query: { source: 'documents', ...task.spec, ...(prepared.recipe === null ? {} : { recipe: prepared.recipe }) },
    requestedBy: task.requested_by,
    known: { missed: [], missingAnswers: 0, skipped },
  });
}

async function examplesOf(
  tx: Tx,
  chunks: readonly UsableChunk[],
  source: DocumentSource,
  recipe: string | null,
): Promise<DocumentExample[][]> {
  const written =
    recipe === null
      ? new Map<string, WrittenPairs>()
      : await findPairs<WrittenPairs>(
          tx,
          recipe,
          chunks.map(({ id }) => id),
        );
  return chunks.map((chunk) => {
    const from = sourceOf(chunk);
    const system = source.system_prompt ?? defaultSystemPrompt(from.documentName);
    if (recipe === null) return autoExamples(from, source.pairs_per_chunk, system);
    const pairs = written.get(chunk.id);
    // Gone with an erased document, or read anew, since it was written: the next build has it.
    return pairs === undefined ? [] : writtenExamples(pairs, system);
  });
}

interface Placed {
  readonly chunk: UsableChunk;
  readonly place: number;
  readonly example: DocumentExample;
  readonly link: string | null;
}

/** Places examples in the permanent split of their document's cluster, and numbers them. */
class DocumentWriter {
  readonly #tx: Tx;
  readonly #versionId: string;
  readonly #mode: Mode;
  readonly #ordinals: Record<Split, number> = { train: 0, validation: 0, test: 0 };
  readonly #testGroups = new Set<string>();
  /** Prompts of this version: a second answer to one of them would contradict the first. */
  readonly #asked = new Set<string>();
  readonly ambiguous: string[] = [];

  constructor(tx: Tx, versionId: string, mode: Mode) {
    this.#tx = tx;
    this.#versionId = versionId;
    this.#mode = mode;
  }

  async add(chunks: readonly UsableChunk[], examples: readonly (readonly DocumentExample[])[]): Promise<void> {
    const placed = chunks.flatMap((chunk, i) =>
      examples[i]!.map((example, place): Placed => ({ chunk, place, example, link: contextLink(example.messages) })),
    );
    if (placed.length === 0) return;
    const owners = await claimPrompts(
      this.#tx,
      placed.flatMap(({ link, chunk }) =>
        link === null ? [] : [{ promptLink: link, groupKey: groupOfCluster(chunk.cluster_id) }],
      ),
    );
    const keys = [...new Set([...owners.values(), ...placed.map(({ chunk }) => groupOfCluster(chunk.cluster_id))])];
    const groups = await findGroupSplits(this.#tx, keys);
    const rows: NewExample[] = [];
    const prompts: { ordinal: number; group_key: string; prompt: object }[] = [];
    for (const item of placed) {
      const group = groups.get(groupOfCluster(item.chunk.cluster_id))!;
      const owner = item.link === null ? undefined : groups.get(owners.get(item.link) ?? '');
      const id = deterministicId('document-example', item.chunk.id, this.#mode, String(item.place));
      // The same words were asked of something else before: here they would have two right answers, and maybe leak.
      const elsewhere = owner !== undefined && owner.root !== group.root;
      if (elsewhere || (item.link !== null && this.#asked.has(item.link))) {
        this.ambiguous.push(id);
        continue;
      }
      if (item.link !== null) this.#asked.add(item.link);
      rows.push(this.#row(id, item, group));
      if (group.split === 'test' && !this.#testGroups.has(group.root)) {
        this.#testGroups.add(group.root);
        prompts.push({ ordinal: this.#testGroups.size, group_key: group.root, prompt: testPromptOf(item, group.root) });
      }
    }
    await insertExamples(this.#tx, this.#versionId, rows);
    await insertTestPrompts(this.#tx, this.#versionId, prompts);
  }

  #row(id: string, { chunk, example, link }: Placed, group: { root: string; split: Split }): NewExample {
    const { split, root } = group;
    this.#ordinals[split] += 1;
    const lineage = {
      feedback_ids: [],
      response_ids: [],
      image_id: null,
      document_id: chunk.document_id,
      chunk_ids: [chunk.id],
    };
    const { messages, chosen } = example;
    return {
      id,
      split,
      ordinal: this.#ordinals[split],
      group_key: root,
      prompt_link: link,
      example: { id, split, group_key: root, messages, chosen, rejected: null, facts: null, weight: 1, lineage },
    };
  }
}

function testPromptOf({ chunk, example }: Placed, root: string): object {
  return { group_key: root, messages: example.messages, facts: null, image_id: null, document_id: chunk.document_id };
}

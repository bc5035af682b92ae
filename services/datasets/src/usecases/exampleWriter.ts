import { deterministicId } from '@tuneloop/runtime/ids';
import type { Tx } from '@tuneloop/runtime/pg/database';
import type { ProjectSettings } from '@tuneloop/runtime/projects';
import type { Split } from '../domain/splits.ts';
import { type FileExample, groupOfExample } from '../domain/trainingFile.ts';
import type { FileRow } from '../store/files.ts';
import { claimPrompts, findGroupSplits, insertGroups } from '../store/groups.ts';
import { insertExamples, type NewExample } from '../store/versions.ts';
import { shareOf } from './projectResponse.ts';

const BATCH_ROWS = 500;
const BATCH_CHARS = 4 * 1024 * 1024;

export interface PendingExample {
  readonly file: FileRow;
  readonly line: number;
  readonly example: FileExample;
  readonly split: Split | null;
}

/** Writes examples in batches; each batch settles its groups and inserts its rows with a few statements. */
export class ExampleWriter {
  readonly #tx: Tx;
  readonly #versionId: string;
  readonly #settings: ProjectSettings;
  readonly #ordinals: Record<Split, number> = { train: 0, validation: 0, test: 0 };
  #batch: PendingExample[] = [];
  #chars = 0;
  lines = 0;
  /** Groups of the project's test split that are trained on all the same, since the files say so. */
  readonly knownTestGroups = new Set<string>();

  constructor(tx: Tx, versionId: string, settings: ProjectSettings) {
    this.#tx = tx;
    this.#versionId = versionId;
    this.#settings = settings;
  }

  async add(item: PendingExample): Promise<void> {
    this.lines += 1;
    this.#batch.push(item);
    this.#chars += JSON.stringify(item.example).length;
    if (this.#batch.length >= BATCH_ROWS || this.#chars >= BATCH_CHARS) await this.flush();
  }

  async flush(): Promise<void> {
    const batch = this.#batch;
    this.#batch = [];
    this.#chars = 0;
    if (batch.length === 0) return;
    const placed = await this.#settleGroups(batch);
    await insertExamples(
      this.#tx,
      this.#versionId,
      placed.map((item) => this.#row(item)),
    );
  }

  /** Where each example belongs: its prompt's known group, or its own, which has or now draws its split for ever. */
  async #settleGroups(batch: readonly PendingExample[]) {
    const tx = this.#tx;
    const own = batch.map((item) => ({ item, ...groupOfExample(item.example.messages) }));
    const linked = own.flatMap(({ promptLink, groupKey }) => (promptLink === null ? [] : [{ promptLink, groupKey }]));
    const groupOfLink = await claimPrompts(tx, linked);
    const keyed = own.map((entry) => ({
      ...entry,
      groupKey: (entry.promptLink === null ? undefined : groupOfLink.get(entry.promptLink)) ?? entry.groupKey,
    }));
    await insertGroups(
      tx,
      keyed.map(({ groupKey, item }) => ({
        groupKey,
        split: item.split ?? shareOf(tx.projectId ?? '', groupKey, this.#settings),
      })),
    );
    const groups = await findGroupSplits(
      tx,
      keyed.map(({ groupKey }) => groupKey),
    );
    return keyed.map(({ item, promptLink, groupKey }) => {
      const group = groups.get(groupKey) ?? { root: groupKey, split: 'train' as const };
      return { item, promptLink, root: group.root, split: this.#splitOf(item, group) };
    });
  }

  #splitOf(item: PendingExample, group: { root: string; split: Split }): Split {
    if (item.split === null) return group.split === 'test' ? 'validation' : group.split;
    if (item.split === 'train' && group.split === 'test') this.knownTestGroups.add(group.root);
    return item.split;
  }

  #row(placed: { item: PendingExample; promptLink: string | null; root: string; split: Split }): NewExample {
    const { item, promptLink, root, split } = placed;
    const { messages, chosen, rejected, weight } = item.example;
    const id = deterministicId('file-example', item.file.sha256, split, String(item.line));
    const lineage = { feedback_ids: [], response_ids: [], image_id: null };
    this.#ordinals[split] += 1;
    return {
      id,
      split,
      ordinal: this.#ordinals[split],
      group_key: root,
      prompt_link: promptLink,
      example: { id, split, group_key: root, messages, chosen, rejected, facts: null, weight, lineage },
    };
  }
}

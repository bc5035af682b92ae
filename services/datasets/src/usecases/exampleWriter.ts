import { deterministicId } from '@tuneloop/runtime/ids';
import type { Tx } from '@tuneloop/runtime/pg/database';
import type { Split } from '../domain/splits.ts';
import { type FileExample, groupOfExample } from '../domain/trainingFile.ts';
import type { FileRow } from '../store/files.ts';
import { claimPrompts, findGroupSplits, insertGroups } from '../store/groups.ts';
import { insertExamples, type NewExample } from '../store/versions.ts';

const BATCH_ROWS = 500;
const BATCH_CHARS = 4 * 1024 * 1024;

export interface PendingExample {
  readonly file: FileRow;
  readonly line: number;
  readonly example: FileExample;
  readonly split: Exclude<Split, 'test'>;
}

/** Writes examples in batches; each batch settles its groups and inserts its rows with a few statements. */
export class ExampleWriter {
  readonly #tx: Tx;
  readonly #versionId: string;
  readonly #ordinals: Record<Split, number> = { train: 0, validation: 0, test: 0 };
  #batch: PendingExample[] = [];
  #chars = 0;
  lines = 0;
  /** Lines of the training file that are in no split: their prompts are in the project's test split. */
  readonly heldBack: number[] = [];

  constructor(tx: Tx, versionId: string) {
    this.#tx = tx;
    this.#versionId = versionId;
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

  /**
   * Where each example belongs: its prompt's known group, or its own. A group that the project has not seen gets the
   * file's split for ever, so that what was trained on is never drawn into the test split later.
   */
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
        split: item.split,
      })),
    );
    const groups = await findGroupSplits(
      tx,
      keyed.map(({ groupKey }) => groupKey),
    );
    return keyed.flatMap(({ item, promptLink, groupKey }) => {
      const group = groups.get(groupKey) ?? { root: groupKey, split: item.split };
      if (item.split === 'train' && group.split === 'test') {
        this.heldBack.push(item.line);
        return [];
      }
      return [{ item, promptLink, root: group.root }];
    });
  }

  #row(placed: { item: PendingExample; promptLink: string | null; root: string }): NewExample {
    const { item, promptLink, root } = placed;
    const { split } = item;
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

import { jaccard, NEAR_DUPLICATE, shinglesOf } from '@tuneloop/metrics/minhash';

/** A share of a document's chunks that repeat another document's: from there on the two are one cluster. */
const CLUSTER_SHARE = 0.2;

export interface ComparedChunk {
  readonly id: string;
  /** Its own text, without what it repeats of the chunk before. */
  readonly own: string;
  readonly textHash: string;
  readonly keys: readonly number[];
}

/** A chunk that is there already and may say the same. */
export interface EarlierChunk {
  /** Place of the chunk that it was found for. */
  readonly i: number;
  readonly id: string;
  readonly text: string;
  readonly cluster_id: string | null;
}

export interface Repetition {
  readonly duplicateOf: string | null;
  /** Jaccard similarity of the word trigrams. */
  readonly similarity: number | null;
  /** Cluster of the earlier document; null within the same document. */
  readonly clusterId: string | null;
}

const NONE: Repetition = { duplicateOf: null, similarity: null, clusterId: null };

/**
 * Which chunks of a document repeat an earlier one, of the project or of the document itself: the most similar of those
 * at or over the threshold. What is repeated repeats nothing itself, so that no chain has to be followed.
 */
export function findRepeated(chunks: readonly ComparedChunk[], earlier: readonly EarlierChunk[]): Repetition[] {
  const candidates = Map.groupBy(earlier, (candidate) => candidate.i);
  const byKey = new Map<number, number[]>();
  const byHash = new Map<string, number>();
  const shingles = new Map<string, Set<number>>();
  const shinglesOfText = (id: string, text: string): Set<number> => {
    const known = shingles.get(id) ?? shinglesOf(text);
    shingles.set(id, known);
    return known;
  };
  return chunks.map((chunk, i) => {
    const mine = shinglesOfText(chunk.id, chunk.own);
    let best = NONE;
    const consider = (id: string, text: string, clusterId: string | null): void => {
      const similarity = mine.size === 0 ? 1 : jaccard(mine, shinglesOfText(id, text));
      if (similarity >= NEAR_DUPLICATE && similarity > (best.similarity ?? 0))
        best = { duplicateOf: id, similarity, clusterId };
    };
    for (const { id, text, cluster_id: clusterId } of candidates.get(i) ?? []) consider(id, text, clusterId);
    const within = new Set(chunk.keys.flatMap((key) => byKey.get(key) ?? []));
    const same = byHash.get(chunk.textHash);
    if (same !== undefined) within.add(same);
    for (const j of within) consider(chunks[j]!.id, chunks[j]!.own, null);
    if (best.duplicateOf === null) {
      byHash.set(chunk.textHash, i);
      for (const key of chunk.keys) byKey.set(key, [...(byKey.get(key) ?? []), i]);
    }
    return best;
  });
}

/** Clusters that the document belongs to, by what it repeats; the one that it repeats most comes first. */
export function clustersOf(repetitions: readonly Repetition[]): string[] {
  const counts = new Map<string, number>();
  for (const { clusterId } of repetitions)
    if (clusterId !== null) counts.set(clusterId, (counts.get(clusterId) ?? 0) + 1);
  return [...counts]
    .filter(([, count]) => count / repetitions.length >= CLUSTER_SHARE)
    .toSorted((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1))
    .map(([clusterId]) => clusterId);
}

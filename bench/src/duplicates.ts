import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { bandKeys, BANDS, jaccard, minHash, NEAR_DUPLICATE, ROWS, shinglesOf } from '@tuneloop/metrics/minhash';
import { createRandom } from '@tuneloop/metrics/random';
import { median, type Result } from './result.ts';

const REFERENCE = fileURLToPath(new URL('duplicates_reference.py', import.meta.url));
const TEXTS = 4_000;
const WORDS = 300;
/** Every fourth text is an earlier one with a fiftieth of its words replaced. */
const COPY_EVERY = 4;
const CHANGED = 0.02;
const ROUNDS = 3;

interface Run {
  readonly seconds: number;
  readonly pairs: number;
}

/** From texts to verified pairs of near-duplicates, over datasketch's MinHashLSH on the same texts and bands. */
export function benchDuplicates(python: string): Result[] {
  const texts = corpus();
  const input = `${texts.join('\n')}\n`;
  findPairs(texts);
  const own: Run[] = [];
  const theirs: Run[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const started = performance.now();
    const pairs = findPairs(texts);
    own.push({ seconds: (performance.now() - started) / 1_000, pairs });
    const output = execFileSync(python, [REFERENCE, String(NEAR_DUPLICATE), String(BANDS), String(ROWS)], {
      input,
      encoding: 'utf8',
    });
    theirs.push(JSON.parse(output) as Run);
  }
  const speed = TEXTS / median(own.map((run) => run.seconds));
  const reference = TEXTS / median(theirs.map((run) => run.seconds));
  return [
    {
      name: 'documents: near-duplicate chunks by MinHash',
      value: `${speed.toFixed(0)} texts/s, ${own[0]!.pairs} pairs`,
      reference: `datasketch MinHashLSH, ${reference.toFixed(0)} texts/s, ${theirs[0]!.pairs} pairs`,
      ratio: speed / reference,
      method: `${TEXTS} texts of ${WORDS} words, ${BANDS} bands of ${ROWS}, from text to pairs of Jaccard >= ${NEAR_DUPLICATE}, one thread each, medians of ${ROUNDS} interleaved rounds after one to warm up`,
    },
  ];
}

function corpus(): string[] {
  const next = createRandom(3);
  const below = (n: number): number => next() % n;
  const texts: string[][] = [];
  for (let i = 0; i < TEXTS; i++) {
    if (i % COPY_EVERY === COPY_EVERY - 1) {
      const copy = [...texts[below(i)]!];
      for (let change = 0; change < CHANGED * WORDS; change++) copy[below(WORDS)] = `other${below(50_000)}`;
      texts.push(copy);
    } else texts.push(Array.from({ length: WORDS }, () => `word${below(20_000)}`));
  }
  return texts.map((words) => words.join(' '));
}

function findPairs(texts: readonly string[]): number {
  const index = new Map<number, number[]>();
  const sets: Set<number>[] = [];
  let pairs = 0;
  texts.forEach((text, i) => {
    const shingles = shinglesOf(text);
    const keys = bandKeys(minHash(shingles));
    const candidates = new Set(keys.flatMap((key) => index.get(key) ?? []));
    for (const j of candidates) if (jaccard(shingles, sets[j]!) >= NEAR_DUPLICATE) pairs++;
    for (const key of keys) {
      const bucket = index.get(key);
      if (bucket) bucket.push(i);
      else index.set(key, [i]);
    }
    sets.push(shingles);
  });
  return pairs;
}

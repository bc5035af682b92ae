/** A statement is worth preparing, per connection, once this process has run it so often. */
export const PREPARE_AFTER_RUNS = 50;
/** Prepared plans take memory on every connection: the hot statements of one service are few. */
export const MAX_PREPARED = 48;
/** SQL texts whose runs are counted; they are constants, so a service has some hundred. */
const MAX_COUNTED = 1_000;

/**
 * A plan that is kept was made for the table as it was, and a young table has no statistics: for fifty rows the whole
 * of it is read. So a text gets a new name, and with it a new plan, each time its runs have grown by this factor.
 */
const REPLAN_FACTOR = 10;

interface Prepared {
  readonly index: number;
  runs: number;
  generation: number;
  replanAt: number;
}

/**
 * Which SQL texts are run so often that the server should parse and plan them once: on a short transaction, planning
 * costs more than running. A name stands for one text for the life of the process.
 */
export class HotStatements {
  readonly #runs = new Map<string, number>();
  readonly #prepared = new Map<string, Prepared>();

  /** Counts one run of the text. Its name when it is to be prepared, else undefined. */
  nameOf(sql: string): string | undefined {
    const prepared = this.#prepared.get(sql);
    if (prepared !== undefined) return nextName(prepared);
    if (this.#prepared.size >= MAX_PREPARED) return undefined;
    const runs = (this.#runs.get(sql) ?? 0) + 1;
    if (runs < PREPARE_AFTER_RUNS) {
      if (runs > 1 || this.#runs.size < MAX_COUNTED) this.#runs.set(sql, runs);
      return undefined;
    }
    this.#runs.delete(sql);
    const made = { index: this.#prepared.size, runs: runs - 1, generation: 0, replanAt: runs * REPLAN_FACTOR };
    this.#prepared.set(sql, made);
    return nextName(made);
  }
}

function nextName(prepared: Prepared): string {
  prepared.runs += 1;
  if (prepared.runs >= prepared.replanAt) {
    prepared.generation += 1;
    prepared.replanAt *= REPLAN_FACTOR;
  }
  return `hot_${prepared.index}_${prepared.generation}`;
}

/** SQLSTATEs: a prepared plan whose result changed with a migration; a prepared statement that a pooler has dropped. */
const STALE_PLAN = new Set(['0A000', '26000']);

export function isStalePlan(error: unknown): error is Error {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' && STALE_PLAN.has(error.code);
}

/** A statement is worth preparing, per connection, once this process has run it so often. */
export const PREPARE_AFTER_RUNS = 50;
/** Prepared plans take memory on every connection: the hot statements of one service are few. */
export const MAX_PREPARED = 48;
/** SQL texts whose runs are counted; they are constants, so a service has some hundred. */
const MAX_COUNTED = 1_000;

/**
 * Which SQL texts are run so often that the server should parse and plan them once: on a short transaction, planning
 * costs more than running. A name stands for one text for the life of the process.
 */
export class HotStatements {
  readonly #runs = new Map<string, number>();
  readonly #names = new Map<string, string>();

  /** Counts one run of the text. Its name when it is to be prepared, else undefined. */
  nameOf(sql: string): string | undefined {
    const name = this.#names.get(sql);
    if (name !== undefined || this.#names.size >= MAX_PREPARED) return name;
    const runs = (this.#runs.get(sql) ?? 0) + 1;
    if (runs < PREPARE_AFTER_RUNS) {
      if (runs > 1 || this.#runs.size < MAX_COUNTED) this.#runs.set(sql, runs);
      return undefined;
    }
    this.#runs.delete(sql);
    const given = `hot_${this.#names.size}`;
    this.#names.set(sql, given);
    return given;
  }
}

/** SQLSTATEs: a prepared plan whose result changed with a migration; a prepared statement that a pooler has dropped. */
const STALE_PLAN = new Set(['0A000', '26000']);

export function isStalePlan(error: unknown): error is Error {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' && STALE_PLAN.has(error.code);
}

/** Where lines go: a terminal or a file. */
export interface TextOutput {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): unknown;
}

const CLEAR_LINE = '\u001B[2K';
const CLEAR_BELOW = '\u001B[J';
const up = (lines: number): string => (lines === 0 ? '' : `\u001B[${lines}A`);

/** A few lines at the end of the terminal that are written again in place. Only for terminals. */
export class LiveBlock {
  readonly #out: TextOutput;
  #shown = 0;

  constructor(out: TextOutput) {
    this.#out = out;
  }

  /** Replaces the block. Lines longer than the terminal is wide would break the counting: they are cut. */
  show(lines: readonly string[]): void {
    const width = this.#out.columns ?? 80;
    // Fewer lines than before: the rest is blanked.
    const blank = Array.from({ length: Math.max(0, this.#shown - lines.length) }, () => '');
    const text = [...lines, ...blank].map(
      (line) =>
        `${CLEAR_LINE}${Array.from(line)
          .slice(0, width - 1)
          .join('')}\n`,
    );
    this.#out.write(up(this.#shown) + text.join(''));
    this.#shown = text.length;
  }

  /** Takes the block away: what is written next stands in its place. */
  clear(): void {
    if (this.#shown > 0) this.#out.write(up(this.#shown) + CLEAR_BELOW);
    this.#shown = 0;
  }

  /** Leaves what is shown and begins anew below it. */
  end(): void {
    this.#shown = 0;
  }
}

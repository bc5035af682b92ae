/**
 * What the person at the terminal sees. On a TTY one live line is rewritten in place; elsewhere each change that
 * matters is a plain line of its own.
 */
export class Terminal {
  readonly #out: NodeJS.WriteStream;
  readonly #live: boolean;
  #pending = '';
  #lastPlain = 0;

  constructor(out: NodeJS.WriteStream = process.stdout) {
    this.#out = out;
    this.#live = out.isTTY;
  }

  /** A finished line. */
  line(text = ''): void {
    this.#clear();
    this.#out.write(`${text}\n`);
  }

  /** A step that is done, with its figure. */
  done(step: string, detail: string, seconds: number): void {
    this.line(`  ✓ ${step.padEnd(12)} ${detail.padEnd(58)} ${seconds.toFixed(1).padStart(6)} s`);
  }

  /** Where a running step is. Not on a TTY, at most one line in `PLAIN_EVERY_MS`. */
  progress(step: string, detail: string): void {
    if (this.#live) {
      this.#clear();
      this.#pending = `  … ${step.padEnd(12)} ${detail}`.slice(0, this.#out.columns - 1);
      this.#out.write(this.#pending);
      return;
    }
    if (Date.now() - this.#lastPlain < PLAIN_EVERY_MS) return;
    this.#lastPlain = Date.now();
    this.#out.write(`  … ${step.padEnd(12)} ${detail}\n`);
  }

  /** Rows under a header, columns as wide as their content. */
  table(header: readonly string[], rows: readonly (readonly string[])[]): void {
    const widths = header.map((cell, column) => Math.max(cell.length, ...rows.map((row) => row[column]?.length ?? 0)));
    const format = (cells: readonly string[]): string =>
      `  ${cells.map((cell, column) => cell.padEnd(widths[column]!)).join('  ')}`.trimEnd();
    this.line(format(header));
    this.line(`  ${widths.map((width) => '─'.repeat(width)).join('  ')}`);
    for (const row of rows) this.line(format(row));
  }

  #clear(): void {
    if (this.#pending === '') return;
    this.#out.write(`\r${' '.repeat(this.#pending.length)}\r`);
    this.#pending = '';
  }
}

const PLAIN_EVERY_MS = 2_000;

export function bar(share: number, width = 24): string {
  const full = Math.round(Math.max(0, Math.min(1, share)) * width);
  return `${'█'.repeat(full)}${'░'.repeat(width - full)} ${(share * 100).toFixed(0).padStart(3)}%`;
}

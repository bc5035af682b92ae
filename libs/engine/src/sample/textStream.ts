import { StreamDecoder } from '../tokenizer/streamDecoder.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';

/** Length of the longest end of `text` that begins `stop`: it may yet become the whole of it. */
function overlap(text: string, stop: string): number {
  for (let length = Math.min(text.length, stop.length - 1); length > 0; length--) {
    if (stop.startsWith(text.slice(-length))) return length;
  }
  return 0;
}

/**
 * The text of a sequence while it is sampled: whole characters only, ended before the first stop string. What may be the
 * beginning of a stop string is held back until it is not.
 */
export class TextStream {
  readonly #decoder: StreamDecoder;
  readonly #stops: readonly string[];
  #held = '';
  #text = '';
  #stopped = false;

  constructor(tokenizer: Tokenizer, stops: readonly string[]) {
    this.#decoder = new StreamDecoder(tokenizer);
    this.#stops = stops;
  }

  /** Text given out so far. */
  get text(): string {
    return this.#text;
  }

  /** True once a stop string has been met; nothing more is given out. */
  get stopped(): boolean {
    return this.#stopped;
  }

  /** Adds a token and gives the text that is now certain. */
  push(token: number): string {
    return this.#take(this.#decoder.push(token), false);
  }

  /** Gives the rest. */
  end(): string {
    return this.#take(this.#decoder.end(), true);
  }

  #take(piece: string, last: boolean): string {
    if (this.#stopped) return '';
    const pending = this.#held + piece;
    const hits = this.#stops.map((stop) => pending.indexOf(stop)).filter((at) => at >= 0);
    this.#stopped = hits.length > 0;
    const keep = this.#stops.reduce((most, stop) => Math.max(most, overlap(pending, stop)), 0);
    const certain = this.#stopped ? Math.min(...hits) : pending.length - (last ? 0 : keep);
    this.#held = pending.slice(certain);
    const given = pending.slice(0, certain);
    this.#text += given;
    return given;
  }
}

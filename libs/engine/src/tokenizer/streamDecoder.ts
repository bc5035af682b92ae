import type { Tokenizer } from './tokenizer.ts';

const REPLACEMENT = '\uFFFD';
/** No character has more bytes, and a byte-level token holds at least one: after so many tokens it is no character. */
const MAX_HELD_TOKENS = 8;

/**
 * Decodes tokens as they come. A character whose bytes are spread over several tokens is held back until it is whole, so
 * the pieces joined are the text of all tokens together.
 *
 * Each piece is the difference between two decodings that start a little before the new tokens: decoders may treat the
 * first token of a text differently (a leading space is dropped), and the start must not move for the part already given.
 */
export class StreamDecoder {
  readonly #tokenizer: Tokenizer;
  readonly #ids: number[] = [];
  /** Where both decodings start. */
  #start = 0;
  /** Tokens before this one have been given out. */
  #given = 0;

  constructor(tokenizer: Tokenizer) {
    this.#tokenizer = tokenizer;
  }

  /** Adds a token; gives the text that is now certain, often one word, sometimes nothing. */
  push(id: number): string {
    this.#ids.push(id);
    const { before, all } = this.#decode();
    const incomplete = all.endsWith(REPLACEMENT) && this.#ids.length - this.#given < MAX_HELD_TOKENS;
    if (incomplete || all.length <= before.length) return '';
    this.#start = this.#given;
    this.#given = this.#ids.length;
    return all.slice(before.length);
  }

  /** What is still held back, with U+FFFD for the bytes of an unfinished character. */
  end(): string {
    const { before, all } = this.#decode();
    this.#given = this.#ids.length;
    return all.slice(before.length);
  }

  #decode(): { before: string; all: string } {
    return {
      before: this.#tokenizer.decode(this.#ids.slice(this.#start, this.#given)),
      all: this.#tokenizer.decode(this.#ids.slice(this.#start)),
    };
  }
}

/** How JSON values are written: brackets, commas, blanks and names around parts that are given. */
import { ANY, complement, ESCAPED, jsonCharacter } from './codePoints.ts';
import type { Expr, Grammar } from './grammar.ts';
import { differentFrom, textOf } from './textAutomaton.ts';

/** Blanks of one indentation. */
const MAX_INDENT = 20;

export class JsonSyntax {
  readonly #grammar: Grammar;
  /** What may stand between a bracket, a comma and a value. */
  readonly gap: Expr;
  readonly anyString: Expr;
  readonly #comma: Expr;
  readonly #colon: Expr;

  constructor(grammar: Grammar) {
    this.#grammar = grammar;
    // Nothing, one blank, or a new line with an indentation: without a bound, blanks could fill the whole answer.
    const indent = grammar.repeat(grammar.literal(' '), 0, MAX_INDENT);
    const line = grammar.sequence([grammar.literal('\n'), indent]);
    this.gap = grammar.optional(grammar.choice([grammar.literal(' '), line]));
    this.#comma = grammar.sequence([grammar.literal(','), this.gap]);
    this.#colon = grammar.sequence([grammar.literal(':'), grammar.optional(grammar.literal(' '))]);
    this.anyString = this.quoted(grammar.repeat(jsonCharacter(grammar, ANY), 0, Infinity));
  }

  quoted(content: Expr): Expr {
    return this.#grammar.sequence([this.#grammar.literal('"'), content, this.#grammar.literal('"')]);
  }

  name(name: string): Expr {
    return this.#grammar.literal(JSON.stringify(name));
  }

  /** A property name that is none of `names`. It has no escapes, so that no name has two spellings. */
  otherName(names: readonly string[]): Expr {
    const automaton = differentFrom(names, complement(ESCAPED));
    return this.quoted(textOf(this.#grammar, automaton, jsonCharacter, { min: 0, max: Infinity }));
  }

  pair(name: Expr, value: Expr): Expr {
    return this.#grammar.sequence([name, this.#colon, value]);
  }

  #brackets(open: string, content: Expr, close: string): Expr {
    const { gap } = this;
    return this.#grammar.sequence([this.#grammar.literal(open), gap, content, gap, this.#grammar.literal(close)]);
  }

  /** From `min` to `max` items: those of `prefix` in their places, then `item` again and again. */
  array(items: {
    readonly prefix: readonly Expr[];
    readonly item: Expr;
    readonly min: number;
    readonly max: number;
  }): Expr {
    const grammar = this.#grammar;
    const { prefix, item, min, max } = items;
    const further = grammar.sequence([this.#comma, item]);
    const left = max - prefix.length;
    const needed = Math.max(0, min - prefix.length);
    /** The items from index `i` on. */
    const from = (i: number): Expr => {
      const comma = i === 0 ? grammar.empty : this.#comma;
      let here: Expr;
      if (i < prefix.length && i < max) here = grammar.sequence([comma, prefix[i]!, from(i + 1)]);
      else if (left <= 0) return grammar.empty;
      else if (i > 0) return grammar.repeat(further, needed, left);
      else here = grammar.sequence([item, grammar.repeat(further, Math.max(0, needed - 1), left - 1)]);
      return i < min ? here : grammar.optional(here);
    };
    return this.#brackets('[', from(0), ']');
  }

  /** Properties in their order, each left out unless needed; after them `extra` ones in any number. */
  object(pairs: readonly { readonly needed: boolean; readonly pair: Expr }[], extra: Expr | undefined): Expr {
    const grammar = this.#grammar;
    const made = new Map<string, Expr>();
    /** The properties from index `i` on; `first` when none has been written. */
    const rest = (i: number, first: boolean): Expr => {
      const key = `${i}${first}`;
      const known = made.get(key) ?? from(i, first);
      made.set(key, known);
      return known;
    };
    const from = (i: number, first: boolean): Expr => {
      const comma = first ? grammar.empty : this.#comma;
      const here = pairs[i];
      if (here === undefined) {
        if (extra === undefined) return grammar.empty;
        const more = grammar.repeat(grammar.sequence([this.#comma, extra]), 0, Infinity);
        return first ? grammar.optional(grammar.sequence([extra, more])) : more;
      }
      const written = grammar.sequence([comma, here.pair, rest(i + 1, false)]);
      return here.needed ? written : grammar.choice([written, rest(i + 1, first)]);
    };
    return this.#brackets('{', rest(0, true), '}');
  }
}

/** Holds an answer to a format: tells the sampler which tokens may come next. */
import { EngineError } from '../../errors.ts';
import { shown } from '../../json.ts';
import type { Tokenizer } from '../../tokenizer/tokenizer.ts';
import { Automaton, type State } from './automaton.ts';
import { utf8 } from './codePoints.ts';
import { type Expr, Grammar } from './grammar.ts';
import { jsonObjectGrammar, jsonSchemaGrammar } from './jsonSchema.ts';
import { patternAutomaton, textOf } from './textAutomaton.ts';
import { addToken, removeToken, type TokenSet, Vocabulary } from './vocabulary.ts';

/** Formats kept ready, by their text. */
const MAX_KEPT_FORMATS = 32;
/** Token sets kept for each of them: 19 KB each for a vocabulary of 150 000. */
const MAX_KEPT_SETS = 256;

export type ResponseFormat =
  /** A JSON value that the schema accepts; what is supported of JSON Schema is in the README. */
  | { readonly type: 'json_schema'; readonly schema: unknown }
  /** Any JSON object. */
  | { readonly type: 'json_object' }
  /** A text that the whole of the pattern matches; ECMAScript's syntax, without looking around and backreferences. */
  | { readonly type: 'regex'; readonly pattern: string };

function grammarOf(format: ResponseFormat): { grammar: Grammar; root: Expr } {
  switch (format.type) {
    case 'json_schema':
      return jsonSchemaGrammar(format.schema);
    case 'json_object':
      return jsonObjectGrammar();
    case 'regex': {
      const grammar = new Grammar();
      const automaton = patternAutomaton(format.pattern, 'whole');
      return { grammar, root: textOf(grammar, automaton, utf8, { min: 0, max: Infinity }) };
    }
    default: {
      const { type } = format as { type: unknown };
      throw new EngineError(
        'engine.sample.bad_request',
        `responseFormat.type must be json_schema, json_object or regex, found ${shown(type)}`,
      );
    }
  }
}

/** A format made ready for a vocabulary; shared by the answers that follow it. */
class Format {
  readonly vocabulary: Vocabulary;
  readonly automaton: Automaton;
  /** In the order of their last use. */
  readonly #sets = new Map<State, TokenSet>();

  constructor(vocabulary: Vocabulary, format: ResponseFormat) {
    const { grammar, root } = grammarOf(format);
    this.vocabulary = vocabulary;
    this.automaton = new Automaton(grammar, root);
  }

  /** Tokens of the vocabulary that may follow, to be left unchanged by the caller. */
  allowed(state: State): TokenSet {
    const set = this.#sets.get(state) ?? this.vocabulary.allowed(this.automaton, state);
    this.#sets.delete(state);
    this.#sets.set(state, set);
    if (this.#sets.size > MAX_KEPT_SETS) this.#sets.delete(this.#sets.keys().next().value!);
    return set;
  }
}

/** One answer's way through its format. */
export class Constraint {
  readonly #format: Format;
  readonly #stopTokens: ReadonlySet<number>;
  #state: State;

  constructor(format: Format, stopTokens: ReadonlySet<number>) {
    this.#format = format;
    this.#stopTokens = stopTokens;
    this.#state = format.automaton.start();
  }

  /** True when the answer is whole and nothing can follow. */
  get ended(): boolean {
    return this.#state.accepting && !this.#state.open;
  }

  /**
   * The tokens that may come next; a stop token only where the answer may end.
   * @throws EngineError `engine.sample.unspeakable` when the vocabulary has no token for what must follow
   */
  allowed(): TokenSet {
    const set = this.#format.allowed(this.#state).slice();
    for (const token of this.#stopTokens) {
      if (token >= this.#format.vocabulary.size) continue;
      if (this.#state.accepting) addToken(set, token);
      else removeToken(set, token);
    }
    if (set.some((word) => word !== 0)) return set;
    throw new EngineError(
      'engine.sample.unspeakable',
      'responseFormat asks for characters that no token of the vocabulary can write',
    );
  }

  /** Takes a token that `allowed` offered and that is no stop token. */
  accept(token: number): void {
    for (const byte of this.#format.vocabulary.bytes(token) ?? []) {
      const next = this.#format.automaton.step(this.#state, byte);
      if (next === null) throw new Error(`token ${token} does not follow the format`);
      this.#state = next;
    }
  }
}

/** Makes constraints for one model and its tokenizer; formats and their token sets are kept for the next answers. */
export class Constraints {
  readonly #tokenizer: Tokenizer;
  readonly #vocabSize: number;
  readonly #formats = new Map<string, Format>();
  #vocabulary: Vocabulary | undefined;

  constructor(tokenizer: Tokenizer, vocabSize: number) {
    this.#tokenizer = tokenizer;
    this.#vocabSize = vocabSize;
  }

  /**
   * @throws EngineError `engine.sample.unsupported_schema` and `engine.sample.unsupported_pattern` with what cannot be
   * honoured, `engine.sample.bad_request` for another type of format
   */
  create(format: ResponseFormat, stopTokens: ReadonlySet<number>): Constraint {
    const key = JSON.stringify(format);
    let known = this.#formats.get(key);
    if (known === undefined) {
      this.#vocabulary ??= new Vocabulary(this.#tokenizer, this.#vocabSize);
      known = new Format(this.#vocabulary, format);
      if (this.#formats.size >= MAX_KEPT_FORMATS) this.#formats.delete(this.#formats.keys().next().value!);
    }
    this.#formats.delete(key);
    this.#formats.set(key, known);
    return new Constraint(known, stopTokens);
  }
}

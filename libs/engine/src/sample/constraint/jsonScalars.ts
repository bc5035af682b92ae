/** Strings and numbers of a JSON schema, and the counts that it may give. */
import { EngineError } from '../../errors.ts';
import { type JsonObject, shown } from '../../json.ts';
import { ANY, jsonCharacter } from './codePoints.ts';
import { FORMATS } from './formats.ts';
import type { Expr, Grammar } from './grammar.ts';
import {
  anyNumber,
  integerWithin,
  isComparable,
  LARGEST,
  type Limit,
  type Limits,
  MAX_DIGITS,
  numberWithin,
} from './jsonNumber.ts';
import type { JsonSyntax } from './jsonSyntax.ts';
import { combined, patternAutomaton, type TextAutomaton, textOf } from './textAutomaton.ts';

/** For texts with a pattern, where each length is looked at. */
const MAX_PATTERN_TEXT = 2000;
/** States of the automata of all patterns of a schema together. */
const MAX_PATTERN_STATES = 10_000;

/** The error for what a schema asks at a place (`#/properties/age`) and cannot have. */
export function refused(at: string, why: string): EngineError {
  return new EngineError('engine.sample.unsupported_schema', `the JSON schema cannot be used at ${at}: ${why}`);
}

function count(schema: JsonObject, key: string, at: string, otherwise: number): number {
  const value = schema[key] ?? otherwise;
  if (value === otherwise || (Number.isSafeInteger(value) && Number(value) >= 0)) return Number(value);
  throw refused(`${at}/${key}`, `it must be an integer from 0 on, found ${shown(value)}`);
}

export interface Span {
  readonly min: number;
  readonly max: number;
}

/** The counts under two keywords, from 0 to anything where they are not given. */
export function span(schema: JsonObject, [least, most]: readonly [string, string], at: string): Span {
  const min = count(schema, least, at, 0);
  const max = count(schema, most, at, Infinity);
  if (min > max) throw refused(`${at}/${least}`, `it is above ${most}`);
  return { min, max };
}

/** A limit; where it is beyond the largest numbers that are written, that one. */
function limit(schema: JsonObject, key: string, at: string): Limit | undefined {
  const value = schema[key];
  const exclusive = key.startsWith('exclusive');
  if (value === undefined) return undefined;
  if (typeof value !== 'number' || Number.isNaN(value)) {
    throw refused(`${at}/${key}`, `it must be a number, found ${shown(value)}`);
  }
  if (Math.abs(value) > LARGEST) {
    const outside = /min/i.test(key) === value > 0;
    if (outside) throw refused(`${at}/${key}`, `numbers of more than ${MAX_DIGITS} digits are not written`);
    return { value: Math.sign(value) * LARGEST, exclusive: false };
  }
  if (isComparable(value)) return { value, exclusive };
  throw refused(`${at}/${key}`, `at most ${MAX_DIGITS} digits are supported, found ${shown(value)}`);
}

function limits(schema: JsonObject, at: string): Limits {
  const [minimum, above] = [limit(schema, 'minimum', at), limit(schema, 'exclusiveMinimum', at)];
  const [maximum, below] = [limit(schema, 'maximum', at), limit(schema, 'exclusiveMaximum', at)];
  // Of equal ones, the exclusive limit is the stricter.
  const low = above === undefined || (minimum !== undefined && minimum.value > above.value) ? minimum : above;
  const high = below === undefined || (maximum !== undefined && maximum.value < below.value) ? maximum : below;
  return { ...(low && { low }), ...(high && { high }) };
}

export class JsonScalars {
  readonly #grammar: Grammar;
  readonly #syntax: JsonSyntax;
  #patternStates = 0;

  constructor(grammar: Grammar, syntax: JsonSyntax) {
    this.#grammar = grammar;
    this.#syntax = syntax;
  }

  number(integer: boolean, schema: JsonObject, at: string): Expr {
    const within = limits(schema, at);
    if (!integer && within.low === undefined && within.high === undefined) return anyNumber(this.#grammar);
    const number = integer ? integerWithin(this.#grammar, within) : numberWithin(this.#grammar, within);
    if (number === undefined) throw refused(at, 'no number is within these limits');
    return number;
  }

  string(schema: JsonObject, at: string): Expr {
    const length = span(schema, ['minLength', 'maxLength'], at);
    const { pattern, format } = schema;
    if (pattern === undefined && format === undefined) {
      if (length.min === 0 && length.max === Infinity) return this.#syntax.anyString;
      return this.#syntax.quoted(this.#grammar.repeat(jsonCharacter(this.#grammar, ANY), length.min, length.max));
    }
    if (length.min > MAX_PATTERN_TEXT || (length.max !== Infinity && length.max > MAX_PATTERN_TEXT)) {
      throw refused(at, `beside a pattern or format, lengths up to ${MAX_PATTERN_TEXT} are supported`);
    }
    const key = pattern === undefined ? 'format' : 'pattern';
    try {
      const automaton = this.#automaton(pattern, format, at);
      this.#patternStates += automaton.states.length;
      if (this.#patternStates > MAX_PATTERN_STATES) throw refused('#', 'its patterns are too large together');
      return this.#syntax.quoted(textOf(this.#grammar, automaton, jsonCharacter, length));
    } catch (cause) {
      const unsupported = cause instanceof EngineError && cause.code === 'engine.sample.unsupported_pattern';
      throw unsupported ? refused(`${at}/${key}`, cause.message) : cause;
    }
  }

  #automaton(pattern: unknown, format: unknown, at: string): TextAutomaton {
    const known = typeof format === 'string' ? FORMATS[format] : undefined;
    if (format !== undefined && known === undefined) {
      throw refused(`${at}/format`, `supported are ${Object.keys(FORMATS).join(', ')}`);
    }
    if (pattern !== undefined && typeof pattern !== 'string') throw refused(`${at}/pattern`, 'it must be a text');
    const automata = [pattern, known].flatMap((source) =>
      source === undefined ? [] : [patternAutomaton(source, 'anywhere')],
    );
    return automata.reduce((a, b) => combined(a, b, true));
  }
}

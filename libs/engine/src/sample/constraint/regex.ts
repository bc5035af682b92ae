/** Reads regular expressions: the part of ECMAScript's syntax (with the `u` flag) that describes a regular language. */
import { EngineError } from '../../errors.ts';
import { type CodePoints, complement, normalised, type Range } from './codePoints.ts';

const MAX_PATTERN_LENGTH = 2000;
/** `{n,m}` is written out m times. */
const MAX_COUNT = 1000;
const MAX_GROUP_DEPTH = 100;

export type Pattern =
  | { readonly kind: 'set'; readonly set: CodePoints }
  | { readonly kind: 'sequence'; readonly items: readonly Pattern[] }
  | { readonly kind: 'choice'; readonly items: readonly Pattern[] }
  | { readonly kind: 'repeat'; readonly item: Pattern; readonly min: number; readonly max: number }
  | { readonly kind: 'start' }
  | { readonly kind: 'end' };

/** A whole expression: the pattern, and what must, or must not, stand at the beginning of the text besides. */
export interface Expression {
  readonly pattern: Pattern;
  readonly conditions: readonly { readonly pattern: Pattern; readonly negative: boolean }[];
}

const single = (char: string): Range => [char.codePointAt(0)!, char.codePointAt(0)!];

const DIGIT: CodePoints = [[0x30, 0x39]];
const WORD = normalised([[0x30, 0x39], [0x41, 0x5a], [0x61, 0x7a], single('_')]);
// prettier-ignore
const SPACE = normalised([
  [0x09, 0x0d],
  [0x20, 0x20],
  [0xa0, 0xa0],
  [0x1680, 0x1680],
  [0x2000, 0x200a],
  [0x2028, 0x2029],
  [0x202f, 0x202f],
  [0x205f, 0x205f],
  [0x3000, 0x3000],
  [0xfeff, 0xfeff],
]);
const LINE_END = normalised([single('\n'), single('\r'), [0x2028, 0x2029]]);

const CLASSES: Readonly<Record<string, CodePoints>> = {
  d: DIGIT,
  D: complement(DIGIT),
  w: WORD,
  W: complement(WORD),
  s: SPACE,
  S: complement(SPACE),
};
const CONTROLS: Readonly<Record<string, number>> = { n: 0x0a, r: 0x0d, t: 0x09, v: 0x0b, f: 0x0c, 0: 0 };

/** Recursive descent over the code points of the source. */
class Parser {
  readonly #source: string;
  readonly #chars: readonly string[];
  #at = 0;
  #depth = 0;

  constructor(source: string) {
    this.#source = source;
    this.#chars = Array.from(source);
  }

  parse(): Expression {
    if (this.#source.length > MAX_PATTERN_LENGTH) throw this.#refuse(`it is longer than ${MAX_PATTERN_LENGTH}`);
    try {
      // What V8 refuses is no regular expression; what follows may be stricter, never laxer.
      new RegExp(this.#source, 'u').test('');
    } catch (cause) {
      throw this.#refuse(cause instanceof Error ? cause.message : 'it is not valid');
    }
    const anchored = this.#chars[0] === '^';
    const conditions: Expression['conditions'][number][] = [];
    if (anchored) {
      this.#at = 1;
      for (let found = this.#condition(); found !== undefined; found = this.#condition()) conditions.push(found);
      if (conditions.length === 0) this.#at = 0;
    }
    const pattern = this.#choice();
    if (conditions.length === 0) return { pattern, conditions };
    if (pattern.kind === 'choice') throw this.#refuse('looking ahead is not supported beside a choice');
    return { pattern: { kind: 'sequence', items: [{ kind: 'start' }, pattern] }, conditions };
  }

  /** `(?=…)` or `(?!…)` at the beginning. */
  #condition(): Expression['conditions'][number] | undefined {
    const opening = this.#chars.slice(this.#at, this.#at + 3).join('');
    if (opening !== '(?=' && opening !== '(?!') return undefined;
    this.#at += 3;
    const pattern = this.#choice();
    this.#take(')');
    return { pattern, negative: opening === '(?!' };
  }

  #refuse(why: string): EngineError {
    const shown = this.#source.slice(0, 100);
    return new EngineError('engine.sample.unsupported_pattern', `the pattern ${shown} cannot be used: ${why}`);
  }

  #take(expected: string): boolean {
    const found = this.#chars[this.#at] === expected;
    if (found) this.#at++;
    return found;
  }

  #choice(): Pattern {
    const items = [this.#sequence()];
    while (this.#take('|')) items.push(this.#sequence());
    return items.length === 1 ? items[0]! : { kind: 'choice', items };
  }

  #sequence(): Pattern {
    const items: Pattern[] = [];
    for (;;) {
      const char = this.#chars[this.#at];
      if (char === undefined || char === '|' || char === ')') break;
      items.push(this.#quantified(this.#atom()));
    }
    return items.length === 1 ? items[0]! : { kind: 'sequence', items };
  }

  #quantified(item: Pattern): Pattern {
    const bounds = this.#bounds();
    if (bounds === undefined) return item;
    const [min, max] = bounds;
    // Laziness changes which match is found, not what can be matched.
    this.#take('?');
    return { kind: 'repeat', item, min, max };
  }

  #bounds(): [number, number] | undefined {
    if (this.#take('*')) return [0, Infinity];
    if (this.#take('+')) return [1, Infinity];
    if (this.#take('?')) return [0, 1];
    if (!this.#take('{')) return undefined;
    const close = this.#chars.indexOf('}', this.#at);
    const [low, high] = this.#chars.slice(this.#at, close).join('').split(',');
    this.#at = close + 1;
    const min = Number(low);
    const max = high === undefined ? min : high === '' ? Infinity : Number(high);
    if (min > MAX_COUNT || (max !== Infinity && max > MAX_COUNT)) throw this.#refuse(`it counts beyond ${MAX_COUNT}`);
    return [min, max];
  }

  #atom(): Pattern {
    const char = this.#chars[this.#at++]!;
    if (char === '^') return { kind: 'start' };
    if (char === '$') return { kind: 'end' };
    if (char === '.') return { kind: 'set', set: complement(LINE_END) };
    if (char === '[') return { kind: 'set', set: this.#class() };
    if (char === '(') return this.#group();
    if (char === '\\') return { kind: 'set', set: this.#escape() };
    return { kind: 'set', set: normalised([single(char)]) };
  }

  #group(): Pattern {
    if (++this.#depth > MAX_GROUP_DEPTH) throw this.#refuse(`its groups nest deeper than ${MAX_GROUP_DEPTH}`);
    if (this.#take('?')) {
      const named = this.#chars[this.#at] === '<' && !['=', '!'].includes(this.#chars[this.#at + 1] ?? '');
      if (named) this.#at = this.#chars.indexOf('>', this.#at) + 1;
      else if (!this.#take(':'))
        throw this.#refuse('looking ahead (but for the very beginning, after ^) or behind and flags are not supported');
    }
    const inner = this.#choice();
    this.#take(')');
    this.#depth--;
    return inner;
  }

  /** After a backslash. */
  #escape(): CodePoints {
    const char = this.#chars[this.#at++]!;
    const known = CLASSES[char];
    if (known !== undefined) return known;
    const control = CONTROLS[char];
    if (control !== undefined) return [[control, control]];
    if (char === 'b' || char === 'B') throw this.#refuse('word boundaries are not supported');
    if (char === 'k' || /[1-9]/.test(char)) throw this.#refuse('backreferences are not supported');
    if (char === 'p' || char === 'P') throw this.#refuse('Unicode properties (\\p) are not supported');
    if (char === 'c') return normalised([this.#code(this.#chars[this.#at++]!.codePointAt(0)! % 32)]);
    if (char === 'x') return normalised([this.#code(this.#hex(2))]);
    if (char === 'u') return normalised([this.#code(this.#unicode())]);
    return normalised([single(char)]);
  }

  #code(value: number): Range {
    return [value, value];
  }

  #hex(digits: number): number {
    const value = Number.parseInt(this.#chars.slice(this.#at, this.#at + digits).join(''), 16);
    this.#at += digits;
    return value;
  }

  #unicode(): number {
    if (this.#take('{')) {
      const value = this.#hex(this.#chars.indexOf('}', this.#at) - this.#at);
      this.#at++;
      return value;
    }
    const unit = this.#hex(4);
    const paired =
      unit >= 0xd800 && unit < 0xdc00 && this.#chars[this.#at] === '\\' && this.#chars[this.#at + 1] === 'u';
    if (!paired) return unit;
    this.#at += 2;
    return 0x10000 + ((unit - 0xd800) << 10) + (this.#hex(4) - 0xdc00);
  }

  #class(): CodePoints {
    const negated = this.#take('^');
    const ranges: Range[] = [];
    while (!this.#take(']')) {
      const low = this.#classAtom();
      const isRange = this.#chars[this.#at] === '-' && this.#chars[this.#at + 1] !== ']';
      if (!isRange) {
        ranges.push(...low);
        continue;
      }
      this.#at++;
      ranges.push([low[0]![0], this.#classAtom()[0]![1]]);
    }
    const set = normalised(ranges);
    return negated ? complement(set) : set;
  }

  #classAtom(): CodePoints {
    const char = this.#chars[this.#at++]!;
    if (char !== '\\') return [single(char)];
    // In a class, \b is a backspace and \- a hyphen.
    if (this.#take('b')) return [[0x08, 0x08]];
    return this.#escape();
  }
}

/** @throws EngineError `engine.sample.unsupported_pattern` with what is not supported, or not valid, in it */
export function parsePattern(source: string): Expression {
  return new Parser(source).parse();
}

/**
 * JSON numbers within limits, compared digit by digit as they are written. A double tells decimals of up to 15 significant
 * digits apart, so numbers of no more digits are, once parsed, on the same side of a limit.
 */
import type { Expr, Grammar } from './grammar.ts';

/** Significant digits that a double keeps. */
export const MAX_DIGITS = 15;
/** Digits before the point of a number with a lower limit only; the rest of 15 is left for its fraction. */
const OPEN_ENDED_DIGITS = 9;
const MAX_EXPONENT_DIGITS = 2;
export const LARGEST = 10 ** MAX_DIGITS - 1;

export interface Limit {
  readonly value: number;
  readonly exclusive: boolean;
}

/** Absent limits are open. */
export interface Limits {
  readonly low?: Limit;
  readonly high?: Limit;
}

const digit = (grammar: Grammar, low = 0, high = 9): Expr => grammar.bytes(0x30 + low, 0x30 + high);
const digits = (grammar: Grammar, min: number, max: number): Expr => grammar.repeat(digit(grammar), min, max);

function magnitude(grammar: Grammar): Expr {
  const positive = grammar.sequence([digit(grammar, 1), digits(grammar, 0, MAX_DIGITS - 1)]);
  return grammar.choice([digit(grammar, 0, 0), positive]);
}

export function anyNumber(grammar: Grammar): Expr {
  const signs = grammar.optional(grammar.choice([grammar.literal('+'), grammar.literal('-')]));
  const exponent = grammar.sequence([
    grammar.choice([grammar.literal('e'), grammar.literal('E')]),
    signs,
    digits(grammar, 1, MAX_EXPONENT_DIGITS),
  ]);
  return grammar.sequence([
    grammar.optional(grammar.literal('-')),
    magnitude(grammar),
    grammar.optional(grammar.sequence([grammar.literal('.'), digits(grammar, 1, MAX_DIGITS)])),
    grammar.optional(exponent),
  ]);
}

/** Digit strings of one length, from `low` to `high`. */
function sameLength(grammar: Grammar, low: string, high: string): Expr {
  if (low === '') return grammar.empty;
  const [from, to] = [Number(low[0]), Number(high[0])];
  const [restLow, restHigh] = [low.slice(1), high.slice(1)];
  if (from === to) return grammar.sequence([digit(grammar, from, from), sameLength(grammar, restLow, restHigh)]);
  const ways: Expr[] = [];
  const [zeros, nines] = ['0'.repeat(restLow.length), '9'.repeat(restLow.length)];
  const wholeLow = restLow === zeros;
  const wholeHigh = restHigh === nines;
  if (!wholeLow) ways.push(grammar.sequence([digit(grammar, from, from), sameLength(grammar, restLow, nines)]));
  const [first, last] = [wholeLow ? from : from + 1, wholeHigh ? to : to - 1];
  if (first <= last) {
    ways.push(grammar.sequence([digit(grammar, first, last), digits(grammar, restLow.length, restLow.length)]));
  }
  if (!wholeHigh) ways.push(grammar.sequence([digit(grammar, to, to), sameLength(grammar, zeros, restHigh)]));
  return grammar.choice(ways);
}

/** Integers from `low` to `high`, both from 0 on, without leading zeros. */
function naturals(grammar: Grammar, low: number, high: number): Expr {
  const ways: Expr[] = [];
  for (let length = String(low).length; length <= String(high).length; length++) {
    const least = Math.max(low, length === 1 ? 0 : 10 ** (length - 1));
    ways.push(sameLength(grammar, String(least), String(Math.min(high, 10 ** length - 1))));
  }
  return grammar.choice(ways);
}

/** Integers within limits, at most 15 digits long; undefined when there is none. */
export function integerWithin(grammar: Grammar, { low, high }: Limits): Expr | undefined {
  let least = Math.max(-LARGEST, Math.ceil(low?.value ?? -LARGEST));
  let most = Math.min(LARGEST, Math.floor(high?.value ?? LARGEST));
  if (low?.exclusive && least === low.value) least++;
  if (high?.exclusive && most === high.value) most--;
  const ways: Expr[] = [];
  if (most >= 0 && least <= most) ways.push(naturals(grammar, Math.max(0, least), most));
  if (least < 0 && least <= most) {
    const negative = naturals(grammar, Math.max(1, -most), -least);
    ways.push(grammar.sequence([grammar.literal('-'), negative]));
  }
  return ways.length === 0 ? undefined : grammar.choice(ways);
}

/** A bound from 0 on, as digits before and after the point. */
interface Decimal {
  readonly whole: number;
  readonly fraction: string;
  readonly exclusive: boolean;
}

function toDecimal({ value, exclusive }: Limit): Decimal {
  const [whole, fraction = ''] = String(value).split('.');
  return { whole: Number(whole), fraction, exclusive };
}

/** Whether a limit can be compared digit by digit: not so large, small or long that it has an exponent or rounds. */
export function isComparable(value: number): boolean {
  return /^-?[0-9.]+$/.test(String(value)) && String(value).replace(/[-.]/g, '').length <= MAX_DIGITS;
}

/**
 * What may follow the digits before the point: nothing, or a point and digits. `low` and `high` are the fractions that it is
 * compared with, absent where anything goes; undefined when nothing may follow, not even nothing. Beyond `places` digits only
 * what a limit itself has is written.
 */
function afterPoint(
  grammar: Grammar,
  places: number,
  low: Decimal | undefined,
  high: Decimal | undefined,
): Expr | undefined {
  const compared = Math.max(places, low?.fraction.length ?? 0, high?.fraction.length ?? 0);
  const mayEnd = (at: number, onLow: boolean, onHigh: boolean): boolean => {
    if (onLow && (low!.exclusive || /[1-9]/.test(low!.fraction.slice(at)))) return false;
    return !onHigh || !high!.exclusive || /[1-9]/.test(high!.fraction.slice(at));
  };
  const more = (at: number, onLow: boolean, onHigh: boolean): Expr | undefined => {
    if (!onLow && !onHigh) return at < places ? digits(grammar, 1, places - at) : undefined;
    if (at >= compared) return undefined;
    const [from, to] = [onLow ? Number(low!.fraction[at] ?? 0) : 0, onHigh ? Number(high!.fraction[at] ?? 0) : 9];
    const ways: Expr[] = [];
    for (let d = from; d <= to; d++) {
      const [stillLow, stillHigh] = [onLow && d === from, onHigh && d === to];
      const rest = tail(at + 1, stillLow, stillHigh);
      if (rest !== undefined) ways.push(grammar.sequence([digit(grammar, d, d), rest]));
    }
    return ways.length === 0 ? undefined : grammar.choice(ways);
  };
  const tail = (at: number, onLow: boolean, onHigh: boolean): Expr | undefined => {
    const further = more(at, onLow, onHigh);
    if (!mayEnd(at, onLow, onHigh)) return further;
    return further === undefined ? grammar.empty : grammar.optional(further);
  };
  const after = more(0, low !== undefined, high !== undefined);
  const point = after && grammar.sequence([grammar.literal('.'), after]);
  if (!mayEnd(0, low !== undefined, high !== undefined)) return point;
  return point === undefined ? grammar.empty : grammar.optional(point);
}

function openEnd(least: number): number {
  return Math.min(LARGEST, 10 ** Math.max(OPEN_ENDED_DIGITS, String(least).length + 1) - 1);
}

/** Numbers from 0 on within limits. */
function positiveWithin(grammar: Grammar, low: Limit, high: Limit | undefined): Expr | undefined {
  const least = toDecimal(low);
  const most: Decimal =
    high === undefined ? { whole: openEnd(least.whole), fraction: '9', exclusive: false } : toDecimal(high);
  if (least.whole > most.whole) return undefined;
  const places = Math.max(1, MAX_DIGITS - String(most.whole).length);
  const ways: (Expr | undefined)[] = [];
  const from = (whole: number, rest: Expr | undefined): Expr | undefined =>
    rest && grammar.sequence([naturals(grammar, whole, whole), rest]);
  if (least.whole === most.whole) return from(least.whole, afterPoint(grammar, places, least, most));
  ways.push(from(least.whole, afterPoint(grammar, places, least, undefined)));
  if (least.whole + 1 < most.whole) {
    const between = naturals(grammar, least.whole + 1, most.whole - 1);
    ways.push(grammar.sequence([between, afterPoint(grammar, places, undefined, undefined)!]));
  }
  ways.push(from(most.whole, afterPoint(grammar, places, undefined, most)));
  const found = ways.filter((way) => way !== undefined);
  return found.length === 0 ? undefined : grammar.choice(found);
}

const ZERO: Limit = { value: 0, exclusive: false };
const negated = ({ value, exclusive }: Limit): Limit => ({ value: -value, exclusive });

/** Decimal numbers within limits, without an exponent; undefined when there is none. */
export function numberWithin(grammar: Grammar, { low, high }: Limits): Expr | undefined {
  const ways: Expr[] = [];
  if (low === undefined || low.value < 0) {
    const closest = high !== undefined && high.value < 0 ? negated(high) : ZERO;
    // At a high of exactly 0, what is excluded is -0 too.
    const bound = high?.value === 0 ? { ...ZERO, exclusive: high.exclusive } : closest;
    const negative = positiveWithin(grammar, bound, low && negated(low));
    if (negative) ways.push(grammar.sequence([grammar.literal('-'), negative]));
  }
  if (high === undefined || high.value >= 0) {
    const positive = positiveWithin(grammar, low !== undefined && low.value >= 0 ? low : ZERO, high);
    if (positive) ways.push(positive);
  }
  return ways.length === 0 ? undefined : grammar.choice(ways);
}

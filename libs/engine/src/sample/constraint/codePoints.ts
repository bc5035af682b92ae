/** Sets of code points as sorted, disjoint, inclusive ranges. Surrogates are in none: they have no UTF-8. */
import type { Expr, Grammar } from './grammar.ts';

export type Range = readonly [low: number, high: number];
export type CodePoints = readonly Range[];

export const ANY: CodePoints = [
  [0, 0xd7ff],
  [0xe000, 0x10ffff],
];

/** What JSON writes with a backslash: control characters, `"` and `\`. */
export const ESCAPED: CodePoints = [
  [0, 0x1f],
  [0x22, 0x22],
  [0x5c, 0x5c],
];

/** Sorts ranges, joins what touches, and leaves surrogates out. */
export function normalised(ranges: readonly Range[]): CodePoints {
  const joined: [number, number][] = [];
  for (const [low, high] of [...ranges].sort((a, b) => a[0] - b[0])) {
    const last = joined.at(-1);
    if (last !== undefined && low <= last[1] + 1) last[1] = Math.max(last[1], high);
    else joined.push([low, high]);
  }
  return intersection(joined, ANY);
}

export function intersection(a: CodePoints, b: CodePoints): CodePoints {
  return a.flatMap(([low, high]) =>
    b.flatMap(([from, to]): Range[] => {
      const both: Range = [Math.max(low, from), Math.min(high, to)];
      return both[0] <= both[1] ? [both] : [];
    }),
  );
}

export function complement(ranges: CodePoints): CodePoints {
  const gaps: Range[] = [];
  let at = 0;
  for (const [low, high] of ranges) {
    if (low > at) gaps.push([at, low - 1]);
    at = high + 1;
  }
  if (at <= 0x10ffff) gaps.push([at, 0x10ffff]);
  return intersection(gaps, ANY);
}

/** Last code points of one, two, three and four bytes. */
const LAST_OF_LENGTH = [0x7f, 0x7ff, 0xffff, 0x10ffff];

function encode(codePoint: number): Uint8Array {
  return new TextEncoder().encode(String.fromCodePoint(codePoint));
}

/** One code point of a range of equal encoded length, byte ranges chosen as in https://github.com/BurntSushi/utf8-ranges */
function encodedRange(grammar: Grammar, low: Uint8Array, high: Uint8Array): Expr {
  const [from, to] = [low[0]!, high[0]!];
  const [restLow, restHigh] = [low.subarray(1), high.subarray(1)];
  if (low.length === 1) return grammar.bytes(from, to);
  const least = restLow.map(() => 0x80);
  const most = restHigh.map(() => 0xbf);
  const ways: Expr[] = [];
  const way = (first: number, last: number, a: Uint8Array, b: Uint8Array): void => {
    if (first <= last) ways.push(grammar.sequence([grammar.bytes(first, last), encodedRange(grammar, a, b)]));
  };
  if (from === to) return grammar.sequence([grammar.bytes(from), encodedRange(grammar, restLow, restHigh)]);
  const wholeFirst = restLow.every((byte) => byte === 0x80);
  const wholeLast = restHigh.every((byte) => byte === 0xbf);
  if (!wholeFirst) way(from, from, restLow, most);
  way(wholeFirst ? from : from + 1, wholeLast ? to : to - 1, least, most);
  if (!wholeLast) way(to, to, least, restHigh);
  return grammar.choice(ways);
}

/** One code point of the set, as UTF-8. */
export function utf8(grammar: Grammar, set: CodePoints): Expr {
  const ways: Expr[] = [];
  for (const [low, high] of set) {
    let from = low;
    for (const last of LAST_OF_LENGTH) {
      if (from > Math.min(last, high)) continue;
      ways.push(encodedRange(grammar, encode(from), encode(Math.min(last, high))));
      from = last + 1;
    }
  }
  return grammar.choice(ways);
}

/** One code point of the set inside a JSON string, spelled as `JSON.stringify` does: each has one spelling. */
export function jsonCharacter(grammar: Grammar, set: CodePoints): Expr {
  const ways: Expr[] = [];
  const plain = intersection(set, complement(ESCAPED));
  if (plain.length > 0) ways.push(utf8(grammar, plain));
  for (const [low, high] of intersection(set, ESCAPED)) {
    for (let at = low; at <= high; at++) {
      ways.push(grammar.literal(JSON.stringify(String.fromCodePoint(at)).slice(1, -1)));
    }
  }
  return grammar.choice(ways);
}

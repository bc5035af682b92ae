import { AppError, badRequest } from '../errors.ts';
import { fieldPath } from '../zodIssues.ts';

/** Deeper than any contract; keeps recursive schemas off the end of the stack. */
const MAX_DEPTH = 100;

/** Control characters (below the space) may not stand in a JSON string. */
const STRING = /"(?:[ !#-[\]-\u{10ffff}]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/uy;
const SCALAR = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null/y;
const SPACE = /[ \t\r\n]*/y;

function match(pattern: RegExp, text: string, at: number): number {
  pattern.lastIndex = at;
  return pattern.test(text) ? pattern.lastIndex : -1;
}

/**
 * Zero-based offset of the first character at which a text stops being JSON; its length when it ends too early.
 * Only called for text that JSON.parse has refused: V8 gives no position for many of them.
 */
export function jsonErrorPosition(text: string): number {
  const open: ('{' | '[')[] = [];
  let expect: 'value' | 'key' | 'after' = 'value';
  let mayClose = false;
  let at = 0;
  for (;;) {
    at = Math.max(at, match(SPACE, text, at));
    const char = text[at];
    if (char === undefined) return text.length;
    const container = open.at(-1);
    if ((char === '}' && container === '{') || (char === ']' && container === '[')) {
      if (expect !== 'after' && !mayClose) return at;
      open.pop();
      expect = 'after';
      at++;
    } else if (expect === 'after') {
      if (char !== ',' || container === undefined) return at;
      expect = container === '{' ? 'key' : 'value';
      mayClose = false;
      at++;
    } else if (expect === 'key') {
      const end = match(STRING, text, at);
      if (end < 0) return at;
      at = Math.max(end, match(SPACE, text, end));
      if (text[at] !== ':') return at;
      expect = 'value';
      mayClose = false;
      at++;
    } else if (char === '{' || char === '[') {
      open.push(char);
      expect = char === '{' ? 'key' : 'value';
      mayClose = true;
      at++;
    } else {
      const end = char === '"' ? match(STRING, text, at) : match(SCALAR, text, at);
      if (end < 0) return at;
      at = end;
      expect = 'after';
    }
  }
}

/** `line 2, column 5` of an offset, counted from 1. */
function lineAndColumn(text: string, offset: number): string {
  const before = text.slice(0, offset);
  const line = before.split('\n').length;
  return `line ${line}, column ${offset - before.lastIndexOf('\n')}`;
}

interface Visit {
  readonly value: unknown;
  readonly parent: Visit | null;
  readonly key: PropertyKey;
  readonly depth: number;
}

function pathOf(visit: Visit): PropertyKey[] {
  const path: PropertyKey[] = [];
  for (let at: Visit | null = visit; at?.parent; at = at.parent) path.unshift(at.key);
  return path;
}

/**
 * Refuses what no field may hold: NUL characters and unpaired surrogates (Postgres stores neither), nesting beyond any contract, and the keys
 * that reach an object's prototype.
 * @throws AppError 400 naming the field.
 */
export function checkJsonValue(root: unknown, name: string): void {
  const stack: Visit[] = [{ value: root, parent: null, key: '', depth: 0 }];
  for (let visit = stack.pop(); visit; visit = stack.pop()) {
    const { value, depth } = visit;
    if (typeof value === 'string') {
      if (value.includes('\0')) throw nul(fieldPath(pathOf(visit)) || name);
      if (!value.isWellFormed()) throw halfCharacter(fieldPath(pathOf(visit)) || name);
      continue;
    }
    if (typeof value !== 'object' || value === null) continue;
    if (depth >= MAX_DEPTH)
      throw badRequest('request.too_deep', `${name} is nested more than ${MAX_DEPTH} levels deep: flatten it`, name);
    for (const [key, item] of Object.entries(value)) {
      if (key === '__proto__')
        throw badRequest('request.key_refused', `${name} has a key "__proto__": remove it`, name);
      if (key.includes('\0')) throw nul(name);
      if (!key.isWellFormed()) throw halfCharacter(name);
      stack.push({ value: item, parent: visit, key: Array.isArray(value) ? Number(key) : key, depth: depth + 1 });
    }
  }
}

function nul(field: string): AppError {
  return badRequest('request.nul_character', `${field} holds a NUL character: remove it`, field);
}

function halfCharacter(field: string): AppError {
  const message = `${field} holds half of a character (an unpaired surrogate): remove it`;
  return badRequest('request.text_invalid', message, field);
}

/**
 * Parses a request body. An empty body is `undefined`, so that a contract without a body accepts it.
 * @throws AppError 400 naming the line and column at which it stops being JSON.
 */
export function parseJsonBody(text: string): unknown {
  if (text.trim() === '') return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text.charCodeAt(0) === 0xfeff ? text.slice(1) : text);
  } catch (error) {
    const at = jsonErrorPosition(text);
    const what = at >= text.length ? 'ends too early' : 'is not JSON';
    throw new AppError({
      code: 'request.json_invalid',
      status: 400,
      message: `The body ${what} at position ${at} (${lineAndColumn(text, at)}).`,
      field: 'body',
      cause: error,
    });
  }
  checkJsonValue(value, 'body');
  return value;
}

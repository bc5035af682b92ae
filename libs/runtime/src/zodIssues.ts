import type { z } from 'zod';

/** One thing wrong with an input: where, and what to do about it. */
export interface FieldError {
  readonly field: string;
  readonly message: string;
}

/** Problems named in one answer; a client mends these first. */
const MAX_FIELD_ERRORS = 20;
const MAX_VALUES_SHOWN = 20;

/** `['items', 0, 'name']` as `items[0].name`. */
export function fieldPath(path: readonly PropertyKey[], root = ''): string {
  let out = root;
  for (const part of path) {
    if (typeof part === 'number') out += `[${part}]`;
    else out += out === '' ? String(part) : `.${String(part)}`;
  }
  return out;
}

function bound(issue: z.core.$ZodIssueTooBig | z.core.$ZodIssueTooSmall): string {
  const big = issue.code === 'too_big';
  const limit = big ? issue.maximum : issue.minimum;
  const inclusive = issue.inclusive ?? true;
  if (issue.origin === 'string') return `must have ${big ? 'at most' : 'at least'} ${limit} characters`;
  if (issue.origin === 'array' || issue.origin === 'set')
    return `must have ${big ? 'at most' : 'at least'} ${limit} items`;
  if (big) return `must be ${inclusive ? 'at most' : 'less than'} ${limit}`;
  return `must be ${inclusive ? 'at least' : 'greater than'} ${limit}`;
}

const FORMAT_FIX: Readonly<Record<string, string>> = {
  uuid: 'must be a UUID such as 0190f5a2-7b3c-7def-8123-456789abcdef',
  guid: 'must be a UUID such as 0190f5a2-7b3c-7def-8123-456789abcdef',
  email: 'must be an e-mail address',
  url: 'must be an absolute URL such as https://example.com/a.png',
  datetime: 'must be an ISO 8601 time with an offset, such as 2026-11-21T09:30:00Z',
  date: 'must be a date such as 2026-11-21',
};

/** How zod's own messages begin; any other message was written by the contract and says more. */
const STOCK_MESSAGE = /^(Invalid |Too (big|small)|Unrecognized |Not a multiple)/;

function messageOf(issue: z.core.$ZodIssue, given: boolean): string {
  if (given && !STOCK_MESSAGE.test(issue.message)) return issue.message;
  switch (issue.code) {
    case 'invalid_type':
      return given ? `must be ${article(issue.expected)}` : `is required: give ${article(issue.expected)}`;
    case 'invalid_value': {
      const values = issue.values.slice(0, MAX_VALUES_SHOWN).map((value) => JSON.stringify(value));
      const more = issue.values.length > MAX_VALUES_SHOWN ? ', …' : '';
      return `${given ? 'must be' : 'is required:'} ${values.length > 1 ? 'one of ' : ''}${values.join(', ')}${more}`;
    }
    case 'too_big':
    case 'too_small':
      return bound(issue);
    case 'not_multiple_of':
      return `must be a multiple of ${issue.divisor}`;
    case 'unrecognized_keys':
      return `has unknown ${issue.keys.length > 1 ? 'fields' : 'field'} ${issue.keys.slice(0, MAX_VALUES_SHOWN).join(', ')}: remove ${issue.keys.length > 1 ? 'them' : 'it'}`;
    case 'invalid_format':
      return (
        FORMAT_FIX[issue.format] ??
        (issue.format === 'regex' && issue.message.startsWith('Invalid string')
          ? `must match ${issue.pattern ?? 'the pattern'}`
          : issue.message)
      );
    default:
      return issue.message;
  }
}

function article(expected: string): string {
  if (expected === 'int') return 'a whole number';
  if (expected === 'array') return 'a list';
  if (expected === 'record') return 'an object';
  return /^[aeiou]/.test(expected) ? `an ${expected}` : `a ${expected}`;
}

function at(input: unknown, path: readonly PropertyKey[]): unknown {
  let value = input;
  for (const part of path) {
    if (typeof value !== 'object' || value === null) return undefined;
    value = (value as Record<PropertyKey, unknown>)[part];
  }
  return value;
}

/**
 * Zod's issues as field errors that say the fix and never repeat the value given.
 * @param root name of the whole input (`body`, `query`), used when the issue has no path.
 */
export function fieldErrors(error: z.core.$ZodError, input: unknown, root: string): FieldError[] {
  const out: FieldError[] = [];
  const add = (issues: readonly z.core.$ZodIssue[], prefix: readonly PropertyKey[]): void => {
    for (const issue of issues) {
      if (out.length >= MAX_FIELD_ERRORS) return;
      const path = [...prefix, ...issue.path];
      const closest = issue.code === 'invalid_union' ? closestBranch(issue.errors) : undefined;
      if (closest) {
        add(closest, path);
        continue;
      }
      out.push({ field: fieldPath(path) || root, message: messageOf(issue, at(input, path) !== undefined) });
    }
  };
  add(error.issues, []);
  return out;
}

/** Of a union's branches the one that the input came furthest into: its complaints are the useful ones. */
function closestBranch(branches: readonly (readonly z.core.$ZodIssue[])[]): readonly z.core.$ZodIssue[] | undefined {
  const depth = (issues: readonly z.core.$ZodIssue[]): number =>
    Math.max(0, ...issues.map((issue) => issue.path.length));
  const deepest = branches
    .filter((issues) => issues.length > 0)
    .toSorted((a, b) => depth(b) - depth(a) || a.length - b.length)[0];
  return deepest && depth(deepest) > 0 ? deepest : undefined;
}

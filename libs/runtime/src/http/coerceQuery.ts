import { z } from 'zod';

/** Wrappers around the type that decides, at most this many. */
const MAX_WRAPPERS = 10;

/** The schema inside `.optional()`, `.default()`, `.nullable()`, `.pipe()` and the like. */
function unwrap(schema: z.core.$ZodType): z.core.$ZodType {
  let current = schema;
  for (let depth = 0; depth < MAX_WRAPPERS; depth++) {
    if (current instanceof z.ZodPipe) current = current.def.in;
    else if (
      current instanceof z.ZodOptional ||
      current instanceof z.ZodNullable ||
      current instanceof z.ZodDefault ||
      current instanceof z.ZodPrefault ||
      current instanceof z.ZodCatch ||
      current instanceof z.ZodReadonly
    ) {
      current = current.def.innerType;
    } else break;
  }
  return current;
}

function coerce(schema: z.core.$ZodType, value: unknown): unknown {
  const type = unwrap(schema);
  if (type instanceof z.ZodArray) {
    const items = Array.isArray(value) ? (value as unknown[]) : [value];
    return items.map((item) => coerce(type.def.element, item));
  }
  if (typeof value !== 'string') return value;
  if (type instanceof z.ZodNumber) {
    const number = value.trim() === '' ? Number.NaN : Number(value);
    return Number.isFinite(number) ? number : value;
  }
  if (type instanceof z.ZodBoolean) {
    if (value === 'true' || value === '1') return true;
    if (value === 'false' || value === '0') return false;
    return value;
  }
  return value;
}

/**
 * A query string's texts as the types of the contract: numbers, booleans (`true`, `false`, `1`, `0`), and lists from
 * one or more occurrences. What does not fit stays a text and fails validation with the field's name.
 */
export function coerceQuery(schema: z.ZodType, raw: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const object = unwrap(schema);
  if (!(object instanceof z.ZodObject)) return { ...raw };
  const shape: Readonly<Record<string, z.core.$ZodType>> = object.shape;
  const out: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(raw)) {
    const field = Object.hasOwn(shape, key) ? shape[key] : undefined;
    out[key] = field ? coerce(field, value) : value;
  }
  return out;
}

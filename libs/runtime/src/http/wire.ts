/** A body type as a handler may give it: a `Date` wherever the wire has a text. */
export type Sendable<T> = string extends T
  ? T | Date
  : T extends string | number | boolean | null | undefined | Date
    ? T
    : T extends readonly (infer Item)[]
      ? readonly Sendable<Item>[]
      : T extends object
        ? { readonly [K in keyof T]: Sendable<T[K]> | (undefined extends T[K] ? undefined : never) }
        : T;

/** Deep copies with dates as ISO 8601 texts and safe bigints as numbers; what JSON has no form for is left out. */
export function toWire(value: unknown): unknown {
  if (typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? Number(value) : value.toString();
  if (typeof value !== 'object' || value === null) return value;
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? null : value.toISOString();
  if (Array.isArray(value)) return value.map(toWire);
  const out: Record<string, unknown> = {};
  for (const [key, item] of Object.entries(value)) if (item !== undefined) out[key] = toWire(item);
  return out;
}

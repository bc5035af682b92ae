/** Text as Postgres can hold it: without NUL characters and lone surrogates, which a model may well produce. */
export function storableText(value: string): string {
  return value.replaceAll('\0', '').toWellFormed();
}

/** As `storableText`, for every text of a JSON value. */
export function storableJson(value: unknown): string {
  return JSON.stringify(value, (_key, item: unknown) => (typeof item === 'string' ? storableText(item) : item));
}

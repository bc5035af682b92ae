/** Rewrites what `tokenizer.json` and its configuration say where the tokenizer library takes it differently. */
import { isJsonObject, type JsonObject } from '../json.ts';

/** Applies `change` to a component and, for a sequence, to its parts. */
function mapParts(component: unknown, change: (part: JsonObject) => JsonObject | undefined): unknown {
  if (!isJsonObject(component)) return component;
  for (const list of ['normalizers', 'pretokenizers']) {
    const parts = component[list];
    if (Array.isArray(parts)) {
      return { ...component, [list]: parts.map((part) => mapParts(part, change)).filter((part) => part !== undefined) };
    }
  }
  return change(component);
}

/** `Digits` means every character of Unicode's numeric classes, as in Rust's `char::is_numeric`, not only 0 to 9. */
export function withUnicodeDigits(json: JsonObject): JsonObject {
  const digits = (part: JsonObject): JsonObject => {
    if (part['type'] !== 'Digits') return part;
    const pattern = { Regex: part['individual_digits'] === true ? '\\p{N}' : '\\p{N}+' };
    return { type: 'Split', pattern, behavior: 'Isolated', invert: false };
  };
  return { ...json, pre_tokenizer: mapParts(json['pre_tokenizer'], digits) };
}

/**
 * Where a blank is put before a text: before `each` part between added tokens, before the `first` part only, or never.
 */
export type LeadingBlank = 'each' | 'first' | 'never';

/** The same tokenizer without leading blanks, and where it puts them. */
export function withoutLeadingBlank(json: JsonObject): { readonly json: JsonObject; readonly blank: LeadingBlank } {
  let blank: LeadingBlank = 'never';
  const change = (part: JsonObject): JsonObject | undefined => {
    if (part['type'] === 'Prepend') {
      blank = 'each';
      return undefined;
    }
    if (part['type'] === 'Metaspace' && part['prepend_scheme'] !== 'never') {
      blank = part['prepend_scheme'] === 'first' ? 'first' : 'each';
      return { ...part, prepend_scheme: 'never', add_prefix_space: false };
    }
    if (part['type'] === 'ByteLevel' && part['add_prefix_space'] === true) {
      blank = 'each';
      return { ...part, add_prefix_space: false };
    }
    return part;
  };
  const normalizer = mapParts(json['normalizer'], change) ?? null;
  const pre_tokenizer = mapParts(json['pre_tokenizer'], change) ?? null;
  return { json: { ...json, normalizer, pre_tokenizer }, blank };
}

/** What bytes a token of the vocabulary stands for, read off the decoder that `tokenizer.json` describes. */
import { isJsonObject, type JsonObject } from '../json.ts';

/** Turns the text of a vocabulary entry into bytes. */
export type TokenSpelling = (entry: string) => Uint8Array;

const UTF8 = new TextEncoder();

/**
 * The character that stands for each byte in byte-level vocabularies (GPT-2's `bytes_to_unicode`): printable bytes stand
 * for themselves, the others for the characters from U+0100 on, in order.
 */
export function byteLevelAlphabet(): Map<string, number> {
  const printable = (byte: number): boolean =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
  const alphabet = new Map<string, number>();
  let others = 0;
  for (let byte = 0; byte < 256; byte++) {
    alphabet.set(String.fromCharCode(printable(byte) ? byte : 0x100 + others++), byte);
  }
  return alphabet;
}

/** The decoder and, for a sequence, its parts. */
export function decoderParts(decoder: unknown): JsonObject[] {
  if (!isJsonObject(decoder)) return [];
  const inner = decoder['decoders'];
  return Array.isArray(inner) ? inner.flatMap(decoderParts) : [decoder];
}

/** @returns undefined for kinds of vocabulary whose entries do not stand for bytes by themselves (WordPiece and others) */
export function tokenSpelling(tokenizerJson: JsonObject): TokenSpelling | undefined {
  const decoders = decoderParts(tokenizerJson['decoder']);
  const of = (type: string): JsonObject | undefined => decoders.find((decoder) => decoder['type'] === type);
  if (of('ByteLevel') !== undefined) {
    const alphabet = byteLevelAlphabet();
    // An entry with other characters is text as it is.
    return (entry) => {
      const bytes = Array.from(entry, (char) => alphabet.get(char));
      return bytes.every((byte) => byte !== undefined) ? Uint8Array.from(bytes) : UTF8.encode(entry);
    };
  }
  const replace = of('Replace');
  const pattern = isJsonObject(replace?.['pattern']) ? replace['pattern']['String'] : undefined;
  const blank = of('Metaspace')?.['replacement'] ?? pattern;
  if (typeof blank !== 'string') return undefined;
  const byteFallback = of('ByteFallback') !== undefined;
  return (entry) => {
    const byte = byteFallback ? /^<0x([0-9A-Fa-f]{2})>$/.exec(entry)?.[1] : undefined;
    return byte === undefined ? UTF8.encode(entry.replaceAll(blank, ' ')) : Uint8Array.of(Number.parseInt(byte, 16));
  };
}

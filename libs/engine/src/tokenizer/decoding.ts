/**
 * Decoding as the `tokenizers` package does it, for the two kinds of decoder that the supported families have. The
 * JavaScript library drops byte order marks, and takes broken bytes between SentencePiece tokens otherwise.
 */
import { isJsonObject, type JsonObject } from '../json.ts';
import { byteLevelAlphabet, decoderParts } from './tokenBytes.ts';

/** Makes text of vocabulary entries. */
export type Decode = (entries: readonly string[]) => string;

const UTF8 = new TextEncoder();
const LENIENT = new TextDecoder('utf-8', { ignoreBOM: true });
const STRICT = new TextDecoder('utf-8', { ignoreBOM: true, fatal: true });

function byteLevel(): Decode {
  const alphabet = byteLevelAlphabet();
  return (entries) => {
    const bytes: number[] = [];
    for (const entry of entries) {
      const own = Array.from(entry, (char) => alphabet.get(char));
      bytes.push(...(own.every((byte) => byte !== undefined) ? own : UTF8.encode(entry)));
    }
    return LENIENT.decode(Uint8Array.from(bytes));
  };
}

/** A run of byte tokens is text when all of it is; otherwise each byte is a U+FFFD. */
function runText(run: readonly number[]): string {
  try {
    return STRICT.decode(Uint8Array.from(run));
  } catch {
    return '\uFFFD'.repeat(run.length);
  }
}

function sentencePiece(blank: string, strip: number): Decode {
  return (entries) => {
    let text = '';
    let run: number[] = [];
    for (const entry of entries) {
      const byte = /^<0x([0-9A-F]{2})>$/.exec(entry)?.[1];
      if (byte !== undefined) {
        run.push(Number.parseInt(byte, 16));
        continue;
      }
      text += runText(run) + entry.replaceAll(blank, ' ');
      run = [];
    }
    text += runText(run);
    const blanks = /^ */.exec(text)![0].length;
    return text.slice(Math.min(strip, blanks));
  };
}

/** @returns undefined for other decoders, which are left to the library */
export function decoderOf(tokenizerJson: JsonObject): Decode | undefined {
  const parts = decoderParts(tokenizerJson['decoder']);
  const kinds = parts.map((part) => part['type']);
  if (kinds.join() === 'ByteLevel') return byteLevel();
  if (!['Replace,ByteFallback,Fuse', 'Replace,ByteFallback,Fuse,Strip'].includes(kinds.join())) return undefined;
  const [replace, , , strip] = parts;
  const pattern = isJsonObject(replace!['pattern']) ? replace!['pattern']['String'] : undefined;
  if (typeof pattern !== 'string' || replace!['content'] !== ' ') return undefined;
  if (strip !== undefined && (strip['content'] !== ' ' || strip['stop'] !== 0)) return undefined;
  return sentencePiece(pattern, Number(strip?.['start'] ?? 0));
}

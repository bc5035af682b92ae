/**
 * Byte-level byte-pair encoding, small enough to read: training (Sennrich et al. 2016, over bytes as in
 * GPT-2), encoding, and the Hugging Face `tokenizer.json` that describes the result to other programs.
 */
export interface Bpe {
  /** Token texts by id, in the byte alphabet below; special tokens first. */
  readonly tokens: readonly string[];
  /** Merges in order of rank. */
  readonly merges: readonly (readonly [string, string])[];
  readonly specials: readonly string[];
}

/** GPT-2's pre-tokenizer: words keep their leading space, digits and punctuation stand apart. */
const WORDS = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;

/** GPT-2's alphabet: each byte as one printable character. */
const BYTE_CHARS: readonly string[] = (() => {
  const printable = (b: number): boolean => (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255);
  let next = 256;
  return Array.from({ length: 256 }, (_, b) => String.fromCharCode(printable(b) ? b : next++));
})();
const CHAR_BYTES = new Map(BYTE_CHARS.map((char, byte) => [char, byte]));

const encoder = new TextEncoder();
const toAlphabet = (word: string): string[] => Array.from(encoder.encode(word), (byte) => BYTE_CHARS[byte] as string);

/**
 * Learns merges until the vocabulary has `size` tokens: special tokens, 256 bytes, merges. Among equally
 * frequent pairs the alphabetically first wins, so training is deterministic.
 */
export function trainBpe(texts: Iterable<string>, size: number, specials: readonly string[]): Bpe {
  const counts = new Map<string, number>();
  for (const text of texts) {
    for (const word of text.match(WORDS) ?? []) counts.set(word, (counts.get(word) ?? 0) + 1);
  }
  const words = [...counts].map(([word, count]) => ({ symbols: toAlphabet(word), count }));
  const tokens = [...specials, ...BYTE_CHARS];
  const merges: [string, string][] = [];
  while (tokens.length < size) {
    const pairs = new Map<string, number>();
    for (const { symbols, count } of words) {
      for (let i = 0; i + 1 < symbols.length; i++) {
        const pair = `${symbols[i]} ${symbols[i + 1]}`;
        pairs.set(pair, (pairs.get(pair) ?? 0) + count);
      }
    }
    let best: string | undefined;
    let bestCount = 1;
    for (const [pair, count] of pairs) {
      if (count > bestCount || (count === bestCount && best !== undefined && pair < best)) {
        best = pair;
        bestCount = count;
      }
    }
    if (best === undefined) break;
    const [left, right] = best.split(' ') as [string, string];
    merges.push([left, right]);
    tokens.push(left + right);
    for (const word of words) word.symbols = mergePair(word.symbols, left, right);
  }
  return { tokens, merges, specials };
}

function mergePair(symbols: string[], left: string, right: string): string[] {
  if (!symbols.includes(left)) return symbols;
  const merged: string[] = [];
  for (let i = 0; i < symbols.length; i++) {
    if (symbols[i] === left && symbols[i + 1] === right) {
      merged.push(left + right);
      i++;
    } else {
      merged.push(symbols[i] as string);
    }
  }
  return merged;
}

export interface BpeCodec {
  /** Token ids of a text; special tokens written out in it become their ids. */
  encode(text: string): number[];
  decode(ids: Iterable<number>): string;
}

export function createBpeCodec(bpe: Bpe): BpeCodec {
  const ids = new Map(bpe.tokens.map((token, id) => [token, id]));
  const ranks = new Map(bpe.merges.map(([left, right], rank) => [`${left} ${right}`, rank]));
  // Bounded by the distinct words of the texts encoded; cleared when it grows past this.
  const MAX_CACHED_WORDS = 50_000;
  const cache = new Map<string, number[]>();
  const encodeWord = (word: string): number[] => {
    const known = cache.get(word);
    if (known !== undefined) return known;
    let symbols = toAlphabet(word);
    for (;;) {
      let best: readonly [string, string] | undefined;
      let bestRank = Number.POSITIVE_INFINITY;
      for (let i = 0; i + 1 < symbols.length; i++) {
        const rank = ranks.get(`${symbols[i]} ${symbols[i + 1]}`);
        if (rank !== undefined && rank < bestRank) {
          bestRank = rank;
          best = bpe.merges[rank];
        }
      }
      if (best === undefined) break;
      symbols = mergePair(symbols, best[0], best[1]);
    }
    const encoded = symbols.map((symbol) => ids.get(symbol) as number);
    if (cache.size >= MAX_CACHED_WORDS) cache.clear();
    cache.set(word, encoded);
    return encoded;
  };
  const special = new RegExp(`(${bpe.specials.map((token) => token.replace(/[|<>]/g, '\\$&')).join('|')})`);
  return {
    encode(text) {
      return text.split(special).flatMap((part, i) => {
        if (i % 2 === 1) return [ids.get(part) as number];
        return (part.match(WORDS) ?? []).flatMap(encodeWord);
      });
    },
    decode(tokenIds) {
      const bytes: number[] = [];
      for (const id of tokenIds) {
        const token = bpe.tokens[id];
        if (token === undefined) throw new RangeError(`no token has id ${id}`);
        if (id < bpe.specials.length) bytes.push(...encoder.encode(token));
        else for (const char of token) bytes.push(CHAR_BYTES.get(char) as number);
      }
      return new TextDecoder().decode(Uint8Array.from(bytes));
    },
  };
}

/** The Hugging Face `tokenizer.json` of a BPE. */
export function toTokenizerJson(bpe: Bpe): unknown {
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: bpe.specials.map((content, id) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: null,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: null,
    decoder: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(bpe.tokens.map((token, id) => [token, id])),
      merges: bpe.merges,
    },
  };
}

/** Reads back what `toTokenizerJson` describes. */
export function fromTokenizerJson(json: {
  added_tokens: readonly { content: string }[];
  model: { vocab: Readonly<Record<string, number>>; merges: readonly (readonly [string, string])[] };
}): Bpe {
  const tokens: string[] = [];
  for (const [token, id] of Object.entries(json.model.vocab)) tokens[id] = token;
  return { tokens, merges: json.model.merges, specials: json.added_tokens.map(({ content }) => content) };
}

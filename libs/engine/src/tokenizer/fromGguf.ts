/** The tokenizer that a GGUF file carries, in the form of `tokenizer.json`. */
import { EngineError } from '../errors.ts';
import { shown, type JsonObject } from '../json.ts';
import { withGgufFile, type GgufMetadata, type GgufValue } from '../weights/gguf.ts';
import { createTokenizer, type Tokenizer, type TokenizerFiles } from './tokenizer.ts';

const LLAMA3_SPLIT =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const QWEN2_SPLIT = LLAMA3_SPLIT.replace('\\p{N}{1,3}', '\\p{N}');
const TEKKEN_SPLIT =
  '[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+' +
  '|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*' +
  '|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+';

/** How a byte-level vocabulary cuts text before merging, by `tokenizer.ggml.pre`. */
export interface PreTokenizer {
  readonly split?: string;
  /** Each digit by itself, before GPT-2's own cut. */
  readonly digits?: true;
  readonly normalizer?: 'NFC';
  /** Whether a piece that is a token as a whole is taken without merging. */
  readonly ignoreMerges?: true;
  /** Whether texts begin with the BOS token when the file does not say. */
  readonly addBos?: true;
}

const LLAMA3: PreTokenizer = { split: LLAMA3_SPLIT, ignoreMerges: true, addBos: true };
const QWEN2: PreTokenizer = { split: QWEN2_SPLIT, normalizer: 'NFC' };

export const GGUF_PRE_TOKENIZERS: ReadonlyMap<string, PreTokenizer> = new Map([
  ['gpt-2', {}],
  ['smollm', { digits: true }],
  ['starcoder', { digits: true }],
  ['llama-bpe', LLAMA3],
  ['llama3', LLAMA3],
  ['llama-v3', LLAMA3],
  ['smaug-bpe', { split: LLAMA3_SPLIT }],
  ['qwen2', QWEN2],
  ['deepseek-r1-qwen', QWEN2],
  ['tekken', { split: TEKKEN_SPLIT, ignoreMerges: true, addBos: true }],
]);

/** `tokenizer.ggml.token_type`. */
export const GGUF_TOKEN_TYPE = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

/** What SentencePiece writes for a space. */
export const SPIECE_SPACE = '\u2581';

function unsupported(what: string): EngineError {
  return new EngineError('engine.tokenizer.unsupported', `the tokenizer of this GGUF file cannot be used: ${what}`);
}

function list(metadata: GgufMetadata, field: string): readonly GgufValue[] | undefined {
  const value = metadata.get(`tokenizer.ggml.${field}`);
  return Array.isArray(value) ? value : undefined;
}

function texts(metadata: GgufMetadata, field: string): string[] {
  const values = list(metadata, field)?.filter((value) => typeof value === 'string');
  if (values === undefined || values.length === 0) throw unsupported(`tokenizer.ggml.${field} is missing`);
  return values;
}

/** Numbers beside the tokens, one for each. */
function perToken(metadata: GgufMetadata, field: string, count: number): number[] | undefined {
  const values = list(metadata, field)?.filter((value) => typeof value === 'number');
  if (values !== undefined && values.length !== count) {
    throw unsupported(`tokenizer.ggml.${field} has ${values.length} entries for ${count} tokens`);
  }
  return values;
}

interface Vocabulary {
  readonly tokens: readonly string[];
  readonly types: readonly number[];
  readonly vocab: Readonly<Record<string, number>>;
}

function readVocabulary(metadata: GgufMetadata): Vocabulary {
  const tokens = texts(metadata, 'tokens');
  const types = perToken(metadata, 'token_type', tokens.length) ?? tokens.map(() => GGUF_TOKEN_TYPE.normal);
  // Unused tokens fill the embedding up to a round number; they are no part of the vocabulary.
  const vocab = Object.fromEntries(
    tokens.map((token, id) => [token, id] as const).filter(([, id]) => types[id] !== GGUF_TOKEN_TYPE.unused),
  );
  return { tokens, types, vocab };
}

function addedTokens({ tokens, types }: Vocabulary): JsonObject[] {
  return tokens.flatMap((content, id) => {
    const special = types[id] === GGUF_TOKEN_TYPE.control || types[id] === GGUF_TOKEN_TYPE.unknown;
    if (!special && types[id] !== GGUF_TOKEN_TYPE.userDefined) return [];
    return [{ id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special }];
  });
}

function byteLevelParts(metadata: GgufMetadata, { vocab }: Vocabulary): JsonObject {
  const name = metadata.get('tokenizer.ggml.pre');
  const pre = typeof name === 'string' ? GGUF_PRE_TOKENIZERS.get(name) : undefined;
  if (pre === undefined) {
    throw unsupported(
      `tokenizer.ggml.pre is ${shown(name)} (supported: ${[...GGUF_PRE_TOKENIZERS.keys()].join(', ')})`,
    );
  }
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: !pre.split };
  const before = pre.split
    ? [{ type: 'Split', pattern: { Regex: pre.split }, behavior: 'Isolated', invert: false }]
    : pre.digits
      ? [{ type: 'Digits', individual_digits: true }]
      : [];
  return {
    normalizer: pre.normalizer ? { type: pre.normalizer } : null,
    pre_tokenizer: { type: 'Sequence', pretokenizers: [...before, byteLevel] },
    decoder: byteLevel,
    model: {
      type: 'BPE',
      vocab,
      merges: texts(metadata, 'merges').map((merge) => merge.split(' ')),
      byte_fallback: false,
      ignore_merges: pre.ignoreMerges === true,
    },
  };
}

/**
 * The merges that SentencePiece's scores stand for: every way to cut a token into two others, the best token first. Within a
 * token, and between tokens of one score, by the order of the parts, as Transformers' converter has it.
 */
function mergesOf({ tokens, types, vocab }: Vocabulary, scores: readonly number[]): string[][] {
  const merges: { left: string; right: string; score: number }[] = [];
  tokens.forEach((token, id) => {
    if (types[id] !== GGUF_TOKEN_TYPE.normal && types[id] !== GGUF_TOKEN_TYPE.userDefined) return;
    const own: typeof merges = [];
    const characters = Array.from(token);
    for (let cut = 1; cut < characters.length; cut++) {
      const left = characters.slice(0, cut).join('');
      const right = characters.slice(cut).join('');
      if (vocab[left] !== undefined && vocab[right] !== undefined) own.push({ left, right, score: scores[id]! });
    }
    merges.push(...own.toSorted((a, b) => vocab[a.left]! - vocab[b.left]! || vocab[a.right]! - vocab[b.right]!));
  });
  merges.sort((a, b) => b.score - a.score);
  return merges.map(({ left, right }) => [left, right]);
}

function sentencePieceParts(metadata: GgufMetadata, vocabulary: Vocabulary): JsonObject {
  const scores = perToken(metadata, 'scores', vocabulary.tokens.length);
  if (scores === undefined) throw unsupported('tokenizer.ggml.scores is missing');
  const unknown = vocabulary.tokens[vocabulary.types.indexOf(GGUF_TOKEN_TYPE.unknown)];
  const prefix = metadata.get('tokenizer.ggml.add_space_prefix') !== false;
  const replace = { type: 'Replace', pattern: { String: ' ' }, content: SPIECE_SPACE };
  const prepend = { type: 'Prepend', prepend: SPIECE_SPACE };
  return {
    normalizer: { type: 'Sequence', normalizers: prefix ? [prepend, replace] : [replace] },
    pre_tokenizer: null,
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: SPIECE_SPACE }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        ...(prefix ? [{ type: 'Strip', content: ' ', start: 1, stop: 0 }] : []),
      ],
    },
    model: {
      type: 'BPE',
      vocab: vocabulary.vocab,
      merges: mergesOf(vocabulary, scores),
      unk_token: unknown ?? null,
      fuse_unk: true,
      byte_fallback: true,
      ignore_merges: false,
    },
  };
}

const NAMED = {
  bos_token: 'bos_token_id',
  eos_token: 'eos_token_id',
  unk_token: 'unknown_token_id',
  pad_token: 'padding_token_id',
} as const;

/** Puts BOS before and EOS after a text that asks for special tokens. */
function postProcessor(bos: string | undefined, eos: string | undefined, tokens: readonly string[]): JsonObject | null {
  const named = [bos, eos].filter((token) => token !== undefined);
  if (named.length === 0) return null;
  const special = (token: string | undefined): JsonObject[] =>
    token === undefined ? [] : [{ SpecialToken: { id: token, type_id: 0 } }];
  const part = (id: 'A' | 'B'): JsonObject[] => [
    ...special(bos),
    { Sequence: { id, type_id: id === 'A' ? 0 : 1 } },
    ...special(eos),
  ];
  return {
    type: 'TemplateProcessing',
    single: part('A'),
    pair: [...part('A'), ...part('B')],
    special_tokens: Object.fromEntries(
      named.map((token) => [token, { id: token, ids: [tokens.indexOf(token)], tokens: [token] }]),
    ),
  };
}

/**
 * A GGUF file's tokenizer as the two files of a Hugging Face folder: byte-level BPE with the cut that
 * `tokenizer.ggml.pre` names, or SentencePiece BPE (`llama`), whose merges are worked out from the scores.
 *
 * @throws EngineError `engine.tokenizer.unsupported` with the name of what is not known
 */
export function ggufTokenizerFiles(metadata: GgufMetadata): TokenizerFiles {
  const model = metadata.get('tokenizer.ggml.model');
  if (model !== 'gpt2' && model !== 'llama') {
    throw unsupported(`tokenizer.ggml.model is ${shown(model)} (supported: gpt2, llama)`);
  }
  const vocabulary = readVocabulary(metadata);
  const parts = model === 'gpt2' ? byteLevelParts(metadata, vocabulary) : sentencePieceParts(metadata, vocabulary);
  const config: JsonObject = {};
  for (const [name, field] of Object.entries(NAMED)) {
    const id = metadata.get(`tokenizer.ggml.${field}`);
    const token = typeof id === 'number' ? vocabulary.tokens[id] : undefined;
    if (token !== undefined) config[name] = token;
  }
  const template = metadata.get('tokenizer.chat_template');
  if (typeof template === 'string') config['chat_template'] = template;
  const name = metadata.get('tokenizer.ggml.pre');
  const bosByDefault =
    model === 'llama' || (typeof name === 'string' && GGUF_PRE_TOKENIZERS.get(name)?.addBos === true);
  const when = (flag: GgufValue, token: unknown): string | undefined =>
    flag === true && typeof token === 'string' ? token : undefined;
  const bos = when(metadata.get('tokenizer.ggml.add_bos_token') ?? bosByDefault, config['bos_token']);
  const eos = when(metadata.get('tokenizer.ggml.add_eos_token') ?? false, config['eos_token']);
  const json = {
    version: '1.0',
    added_tokens: addedTokens(vocabulary),
    ...parts,
    post_processor: postProcessor(bos, eos, vocabulary.tokens),
  };
  return { json, config };
}

/** {@link ggufTokenizerFiles} made into a tokenizer. */
export function tokenizerFromGguf(metadata: GgufMetadata): Tokenizer {
  const { json, config } = ggufTokenizerFiles(metadata);
  return createTokenizer(json, config);
}

/** Reads the tokenizer alone out of a GGUF file. @throws EngineError also as `readGgufHeader` */
export async function loadTokenizerGguf(path: string): Promise<Tokenizer> {
  return await withGgufFile(path, async ({ metadata }) => tokenizerFromGguf(metadata));
}

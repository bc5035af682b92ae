/** A Hugging Face tokenizer as the metadata of a GGUF file. */
import { EngineError } from '../errors.ts';
import { isJsonObject, shown, type JsonObject } from '../json.ts';
import type { GgufEntry } from '../weights/ggufEncode.ts';
import { GGUF_PRE_TOKENIZERS, GGUF_TOKEN_TYPE, SPIECE_SPACE, type PreTokenizer } from './fromGguf.ts';
import type { TokenizerFiles } from './tokenizer.ts';

const BYTE_TOKEN = /^<0x[0-9A-F]{2}>$/;

function unsupported(what: string): EngineError {
  return new EngineError('engine.tokenizer.unsupported', `this tokenizer cannot be written to GGUF: ${what}`);
}

const objects = (value: unknown): JsonObject[] => (Array.isArray(value) ? value.filter(isJsonObject) : []);

/** A component, or the components of a sequence of them. */
function flatten(value: unknown, field: string): JsonObject[] {
  if (!isJsonObject(value)) return [];
  return value['type'] === 'Sequence' ? objects(value[field]) : [value];
}

interface Vocabulary {
  readonly tokens: string[];
  readonly types: number[];
}

function readVocabulary(json: JsonObject, model: JsonObject, vocabSize: number): Vocabulary {
  const vocab = model['vocab'];
  if (model['type'] !== 'BPE' || !isJsonObject(vocab)) throw unsupported(`model type ${shown(model['type'])}`);
  const tokens: string[] = [];
  const types: number[] = [];
  const put = (id: unknown, token: string, type: number): void => {
    if (typeof id !== 'number' || id >= vocabSize) {
      throw unsupported(`token ${shown(token)} has id ${shown(id)}, beyond the model's ${vocabSize} embeddings`);
    }
    tokens[id] = token;
    types[id] = type;
  };
  const bytes = model['byte_fallback'] === true;
  for (const [token, id] of Object.entries(vocab)) {
    put(id, token, bytes && BYTE_TOKEN.test(token) ? GGUF_TOKEN_TYPE.byte : GGUF_TOKEN_TYPE.normal);
  }
  for (const { id, content, special } of objects(json['added_tokens'])) {
    if (typeof content !== 'string') throw unsupported('an added token without text');
    const unknown = content === model['unk_token'] && bytes;
    const control = unknown ? GGUF_TOKEN_TYPE.unknown : GGUF_TOKEN_TYPE.control;
    put(id, content, special === true ? control : GGUF_TOKEN_TYPE.userDefined);
  }
  for (let id = 0; id < vocabSize; id++) {
    if (tokens[id] !== undefined) continue;
    tokens[id] = `[PAD${id}]`;
    types[id] = GGUF_TOKEN_TYPE.unused;
  }
  return { tokens, types };
}

function merges(model: JsonObject): string[] {
  const list: unknown[] = Array.isArray(model['merges']) ? model['merges'] : [];
  return list.map((merge) => (Array.isArray(merge) ? merge.join(' ') : String(merge)));
}

/** The name llama.cpp has for the way text is cut, found by what the cut is. */
function preTokenizerName(json: JsonObject, ignoreMerges: boolean): string {
  const parts = flatten(json['pre_tokenizer'], 'pretokenizers');
  const byteLevel = parts.find((part) => part['type'] === 'ByteLevel');
  const before = parts.filter((part) => part !== byteLevel);
  const pattern = before.length === 1 && before[0]!['type'] === 'Split' ? before[0]!['pattern'] : undefined;
  const split = isJsonObject(pattern) ? pattern['Regex'] : undefined;
  const digits = before.length === 1 && before[0]!['type'] === 'Digits' && before[0]!['individual_digits'] === true;
  const known = before.length === 0 || typeof split === 'string' || digits;
  const usesRegex = byteLevel?.['use_regex'] !== false;
  const fits = (pre: PreTokenizer): boolean =>
    pre.split === split &&
    (pre.digits === true) === digits &&
    (pre.ignoreMerges === true) === ignoreMerges &&
    usesRegex === (pre.split === undefined);
  const normalizer = flatten(json['normalizer'], 'normalizers').map((part) => part['type']);
  const found = [...GGUF_PRE_TOKENIZERS].find(([, pre]) => fits(pre));
  if (!known || byteLevel === undefined || byteLevel['add_prefix_space'] === true || found === undefined) {
    throw unsupported(`llama.cpp has no name for the pre-tokenizer ${shown(json['pre_tokenizer'])}`);
  }
  if (normalizer.some((type) => type !== 'NFC')) throw unsupported(`normalizer ${shown(json['normalizer'])}`);
  return found[0];
}

/**
 * Scores that make llama.cpp's SentencePiece merge in the order of the merges: the earlier one makes a token, the higher
 * its score. Tokens that no merge makes are never looked at by score.
 */
function scoresOf(tokens: readonly string[], list: readonly string[]): number[] {
  const rank = new Map<string, number>();
  list.forEach((merge, i) => {
    const token = merge.replace(' ', '');
    if (!rank.has(token)) rank.set(token, i);
  });
  return tokens.map((token) => -(rank.get(token) ?? list.length));
}

/** Whether a text gets a space before it; other normalizers than SentencePiece's have no place in the format. */
function spacePrefix(json: JsonObject): boolean {
  const normalizers = flatten(json['normalizer'], 'normalizers');
  const [metaspace, ...others] = flatten(json['pre_tokenizer'], 'pretokenizers');
  if (others.length === 0 && metaspace?.['type'] === 'Metaspace' && normalizers.length === 0) {
    return metaspace['prepend_scheme'] !== 'never';
  }
  const known = normalizers.every(
    (part) =>
      (part['type'] === 'Prepend' && part['prepend'] === SPIECE_SPACE) ||
      (part['type'] === 'Replace' && part['content'] === SPIECE_SPACE),
  );
  if (metaspace !== undefined || !known) {
    throw unsupported(`normalizer ${shown(json['normalizer'])}, pre-tokenizer ${shown(json['pre_tokenizer'])}`);
  }
  return normalizers.some((part) => part['type'] === 'Prepend');
}

/** Whether special tokens stand before or after the first text of the post-processor's template. */
function templateEnds(json: JsonObject): { bos: boolean; eos: boolean } {
  const template = flatten(json['post_processor'], 'processors').find((part) => part['type'] === 'TemplateProcessing');
  const single = objects(template?.['single']);
  const text = single.findIndex((part) => 'Sequence' in part);
  return { bos: text > 0, eos: text >= 0 && text < single.length - 1 };
}

const NAMED = {
  bos_token: 'bos_token_id',
  eos_token: 'eos_token_id',
  unk_token: 'unknown_token_id',
  pad_token: 'padding_token_id',
} as const;

/**
 * The metadata of a tokenizer: byte-level BPE whose cut llama.cpp has a name for, or SentencePiece BPE with byte fallback.
 * Rows of the embedding without a token are filled with unused ones.
 *
 * @param eosTokenIds tokens that end a text; the first that is not `eos_token` becomes the end of a turn
 * @throws EngineError `engine.tokenizer.unsupported` with what the format cannot say
 */
export function ggufTokenizerEntries(
  { json, config }: TokenizerFiles,
  vocabSize: number,
  eosTokenIds: readonly number[] = [],
): GgufEntry[] {
  const model = isJsonObject(json['model']) ? json['model'] : {};
  const { tokens, types } = readVocabulary(json, model, vocabSize);
  const list = merges(model);
  const key = (name: string): string => `tokenizer.ggml.${name}`;
  const ends = templateEnds(json);
  const entries: GgufEntry[] =
    model['byte_fallback'] === true
      ? [
          { key: key('model'), text: 'llama' },
          { key: key('pre'), text: 'default' },
          { key: key('scores'), f32s: scoresOf(tokens, list) },
          { key: key('add_space_prefix'), bool: spacePrefix(json) },
        ]
      : [
          { key: key('model'), text: 'gpt2' },
          { key: key('pre'), text: preTokenizerName(json, model['ignore_merges'] === true) },
          { key: key('merges'), texts: list },
        ];
  entries.push({ key: key('tokens'), texts: tokens }, { key: key('token_type'), i32s: types });
  entries.push({ key: key('add_bos_token'), bool: ends.bos }, { key: key('add_eos_token'), bool: ends.eos });
  let end: number | undefined;
  for (const [name, field] of Object.entries(NAMED)) {
    const value = config[name];
    const id = tokens.indexOf(String(isJsonObject(value) ? value['content'] : value));
    if (id < 0) continue;
    entries.push({ key: key(field), u32: id });
    if (name === 'eos_token') end = id;
  }
  const others = eosTokenIds.filter((id) => id !== end);
  if (end === undefined && others[0] !== undefined) entries.push({ key: key(NAMED.eos_token), u32: others.shift()! });
  if (others[0] !== undefined) entries.push({ key: key('eot_token_id'), u32: others[0] });
  const template = config['chat_template'];
  if (typeof template === 'string') entries.push({ key: 'tokenizer.chat_template', text: template });
  return entries;
}

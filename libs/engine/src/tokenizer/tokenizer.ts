import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers';
import { EngineError } from '../errors.ts';
import { isJsonObject, type JsonObject } from '../json.ts';
import type { TokenIds } from '../types.ts';
import { decoderOf } from './decoding.ts';
import { withoutLeadingBlank, withUnicodeDigits } from './normalise.ts';
import { tokenSpelling } from './tokenBytes.ts';

/** Text to token ids and back, as `tokenizer.json` says. */
export interface Tokenizer {
  /** Size of the vocabulary, added tokens included. */
  readonly vocabSize: number;
  /** Jinja template of `tokenizer_config.json`, when it has one. */
  readonly chatTemplate?: string;
  /** Named tokens that templates use (`bos_token`, `eos_token` and the like), as text. */
  readonly namedTokens: Readonly<Record<string, string>>;
  /**
   * Special tokens in the text (`<|im_end|>`) become their ids. No beginning or end token is added unless asked for: chat
   * templates write their own.
   *
   * `after` is what stands before the text, and is not encoded itself: SentencePiece's tokenizers put a blank before a text
   * where it begins, and must not where it goes on.
   */
  encode(text: string, options?: { readonly addSpecialTokens?: boolean; readonly after?: string }): number[];
  /** Bytes that are no valid UTF-8 become U+FFFD. Special tokens are left out unless `keepSpecialTokens`. */
  decode(ids: TokenIds, options?: { readonly keepSpecialTokens?: boolean }): string;
  /** The id of a token by its text in the vocabulary. */
  tokenId(token: string): number | undefined;
  /**
   * The bytes that a token adds to a text; undefined for ids without text: unknown, special or added ones.
   * @throws EngineError `engine.tokenizer.unsupported` when tokens of this kind of vocabulary have no bytes of their own
   */
  tokenBytes(id: number): Uint8Array | undefined;
  /** The id of `eos_token`, when named. */
  readonly eosTokenId?: number;
}

const NAMED = ['bos_token', 'eos_token', 'pad_token', 'unk_token'] as const;

function namedTokens(config: JsonObject): Record<string, string> {
  const named: Record<string, string> = {};
  for (const name of NAMED) {
    const value = config[name];
    // Written either as text or as an AddedToken with its text in `content`.
    const text = isJsonObject(value) ? value['content'] : value;
    if (typeof text === 'string') named[name] = text;
  }
  return named;
}

/** `chat_template` is a string, or a list of named templates of which `default` is the one for plain chat. */
function chatTemplate(config: JsonObject): string | undefined {
  const value = config['chat_template'];
  if (typeof value === 'string') return value;
  if (!Array.isArray(value)) return undefined;
  const template: unknown = value.filter(isJsonObject).find((entry) => entry['name'] === 'default')?.['template'];
  return typeof template === 'string' ? template : undefined;
}

function newTokenizer(json: JsonObject, config: JsonObject): HuggingFaceTokenizer {
  const isBpe = isJsonObject(json['model']) && json['model']['type'] === 'BPE';
  try {
    return new HuggingFaceTokenizer(withUnicodeDigits(json), {
      ...config,
      // Cleaning up changes text that the model wrote. Transformers' default since 5, which also ignores it for BPE.
      clean_up_tokenization_spaces: isBpe ? false : (config['clean_up_tokenization_spaces'] ?? false),
    });
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : 'unknown component';
    throw new EngineError('engine.tokenizer.unsupported', `this tokenizer cannot be used: ${why}`, { cause });
  }
}

/** Encodes a text that goes on from another one. */
function continuation(json: JsonObject, config: JsonObject, whole: HuggingFaceTokenizer) {
  const { json: bare, blank } = withoutLeadingBlank(json);
  const encode = (tokenizer: HuggingFaceTokenizer, text: string): number[] =>
    text === '' ? [] : tokenizer.encode(text, { add_special_tokens: false }).ids;
  if (blank === 'never') return (text: string): number[] => encode(whole, text);
  const added = [...whole.get_added_tokens_decoder().values()].map(({ content }) => content);
  // Made when first needed: it is a second tokenizer.
  let made: { readonly tokenizer: HuggingFaceTokenizer } | undefined;
  return (text: string, after: string): number[] => {
    if (blank === 'each' && added.some((token) => after.endsWith(token))) return encode(whole, text);
    made ??= { tokenizer: newTokenizer(bare, config) };
    const { tokenizer } = made;
    if (blank === 'first') return encode(tokenizer, text);
    // Up to the next added token the text goes on; from there it is in parts as usual.
    const next = added.map((token) => text.indexOf(token)).filter((at) => at >= 0);
    const cut = next.length === 0 ? text.length : Math.min(...next);
    return [...encode(tokenizer, text.slice(0, cut)), ...encode(whole, text.slice(cut))];
  };
}

/**
 * @param tokenizerJson the parsed `tokenizer.json`
 * @param config the parsed `tokenizer_config.json`, if there is one
 * @throws EngineError `engine.tokenizer.unsupported` when a component of the tokenizer is not known
 */
export function createTokenizer(tokenizerJson: JsonObject, config: JsonObject = {}): Tokenizer {
  const tokenizer = newTokenizer(tokenizerJson, config);
  const goOn = continuation(tokenizerJson, config, tokenizer);
  const spelling = tokenSpelling(tokenizerJson);
  const decode = decoderOf(tokenizerJson);
  const added = tokenizer.get_added_tokens_decoder();
  const unknown = isJsonObject(tokenizerJson['model']) ? tokenizerJson['model']['unk_token'] : undefined;
  const template = chatTemplate(config);
  const named = namedTokens(config);
  const eosTokenId = named['eos_token'] === undefined ? undefined : tokenizer.token_to_id(named['eos_token']);
  return {
    vocabSize: tokenizer.get_vocab(true).size,
    namedTokens: named,
    ...(template !== undefined && { chatTemplate: template }),
    ...(eosTokenId !== undefined && { eosTokenId }),
    encode: (text, options) =>
      options?.after
        ? goOn(text, options.after)
        : tokenizer.encode(text, { add_special_tokens: options?.addSpecialTokens ?? false }).ids,
    decode: (ids, options) => {
      const keep = options?.keepSpecialTokens ?? false;
      // The library refuses to decode nothing.
      if (ids.length === 0) return '';
      if (decode === undefined) return tokenizer.decode(Array.from(ids), { skip_special_tokens: !keep });
      const entries = Array.from(ids, (id) =>
        keep || added.get(id)?.special !== true ? tokenizer.id_to_token(id) : undefined,
      );
      return decode(entries.filter((entry) => entry !== undefined));
    },
    tokenId: (token) => tokenizer.token_to_id(token),
    tokenBytes: (id) => {
      if (spelling === undefined) {
        throw new EngineError('engine.tokenizer.unsupported', 'the tokens of this tokenizer cannot be told as bytes');
      }
      const entry = added.has(id) ? undefined : tokenizer.id_to_token(id);
      return entry === undefined || entry === unknown ? undefined : spelling(entry);
    },
  };
}

async function readJsonObject(path: string): Promise<JsonObject> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(await readFile(path, 'utf8'));
  } catch (cause) {
    throw new EngineError('engine.tokenizer.missing_file', `cannot read ${path} as JSON`, { cause });
  }
  if (!isJsonObject(parsed)) throw new EngineError('engine.tokenizer.unsupported', `${path} is not an object`);
  return parsed;
}

/** `tokenizer.json` and `tokenizer_config.json`, parsed. */
export interface TokenizerFiles {
  readonly json: JsonObject;
  /** With the text of `chat_template.jinja`, where there is one, as `chat_template`. */
  readonly config: JsonObject;
}

/**
 * Reads `tokenizer.json`, and beside it `tokenizer_config.json` and `chat_template.jinja` where they are.
 * @throws EngineError `engine.tokenizer.missing_file`, `engine.tokenizer.unsupported`
 */
export async function readTokenizerFiles(folder: string): Promise<TokenizerFiles> {
  const optional = async (file: string): Promise<string | undefined> =>
    await readFile(join(folder, file), 'utf8').catch(() => undefined);
  const configText = await optional('tokenizer_config.json');
  const template = await optional('chat_template.jinja');
  const config = configText === undefined ? {} : await readJsonObject(join(folder, 'tokenizer_config.json'));
  const json = await readJsonObject(join(folder, 'tokenizer.json'));
  return { json, config: template === undefined ? config : { ...config, chat_template: template } };
}

/** {@link readTokenizerFiles} made into a tokenizer. @throws EngineError as that and {@link createTokenizer} */
export async function loadTokenizerFolder(folder: string): Promise<Tokenizer> {
  const { json, config } = await readTokenizerFiles(folder);
  return createTokenizer(json, config);
}

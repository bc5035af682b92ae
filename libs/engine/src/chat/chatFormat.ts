import { Template } from '@huggingface/jinja';
import { EngineError } from '../errors.ts';
import { isJsonObject } from '../json.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { SftExample } from '../types.ts';
import { strftime } from './strftime.ts';
import { assistantSpans } from './turns.ts';

/** A message as OpenAI's and Hugging Face's formats write it; further fields reach the template as they are. */
export interface ChatMessage {
  readonly role: string;
  readonly content: unknown;
  /** Weight of an assistant message's tokens in the loss, 0 to leave it out (default 1). Other roles have none. */
  readonly weight?: number;
  readonly [field: string]: unknown;
}

export interface RenderOptions {
  /** End with the opening of an assistant message, for the model to go on (default false). */
  readonly addGenerationPrompt?: boolean;
  /** Handed to the template as `tools`. */
  readonly tools?: readonly unknown[];
}

export interface ChatFormat {
  /** The conversation as text. @throws EngineError `engine.chat.template` with what the template objects to */
  render(messages: readonly ChatMessage[], options?: RenderOptions): string;
  /** Token ids of `render(messages, {addGenerationPrompt: true})`: what an answer is sampled from. */
  encodePrompt(messages: readonly ChatMessage[], options?: Pick<RenderOptions, 'tools'>): number[];
  /**
   * Token ids of a whole conversation with the weight of each in the loss: the message's weight on what the assistant would
   * have sampled, its end token included; 0 on all else, such as the newline a template puts after the end token.
   * @throws EngineError `engine.chat.mask` when the template rewrites messages, so that no such mask can be found
   */
  encodeConversation(messages: readonly ChatMessage[], options?: Pick<RenderOptions, 'tools'>): SftExample;
  /** The ids an answer to `messages` would have been sampled as, its end token included. */
  encodeAnswer(messages: readonly ChatMessage[], answer: ChatMessage, options?: Pick<RenderOptions, 'tools'>): number[];
}

export interface ChatFormatOptions {
  readonly tokenizer: Tokenizer;
  /** Jinja; default: the tokenizer's own. */
  readonly template?: string;
  /** Tokens that end an answer; default: the tokenizer's `eos_token`. */
  readonly eosTokenIds?: readonly number[];
  /** For templates that write today's date; default: the time of rendering. Training takes a fixed one to be repeatable. */
  readonly now?: Date;
  /** Further variables that the template reads, such as Qwen3's `enable_thinking`. */
  readonly variables?: Readonly<Record<string, unknown>>;
}

interface Segment {
  readonly text: string;
  /** What stands before it. */
  readonly after: string;
  /** Weight in the loss; 0 for context. */
  readonly weight: number;
}

/** Stands in templates for `strftime_now`, which the library keeps to itself: in the language of the machine, and untold. */
const STRFTIME = 'strftime_given';

/** Names for what a model thought before it answered; templates read the first, or `thinking`. */
const REASONING = ['reasoning_content', 'thinking', 'reasoning'] as const;

function withReasoning(message: ChatMessage): ChatMessage {
  const reasoning = REASONING.map((name) => message[name]).find((value) => value !== undefined && value !== null);
  return reasoning === undefined ? message : { thinking: reasoning, ...message, reasoning_content: reasoning };
}

class JinjaChatFormat implements ChatFormat {
  readonly #tokenizer: Tokenizer;
  readonly #template: Template;
  readonly #eos: readonly number[];
  readonly #now: Date | undefined;
  readonly #variables: Readonly<Record<string, unknown>>;
  /** Whether the template reads content that is given in parts. */
  readonly #readsParts: boolean;

  constructor(options: ChatFormatOptions, source: string, template: Template) {
    const { tokenizer } = options;
    const own = tokenizer.eosTokenId;
    this.#tokenizer = tokenizer;
    this.#template = template;
    this.#eos = options.eosTokenIds ?? (own === undefined ? [] : [own]);
    this.#now = options.now;
    this.#variables = options.variables ?? {};
    this.#readsParts = /['"]text['"]|\.text\b/.test(source);
  }

  /** Text in parts as one text, for templates that know no parts. */
  #plain(message: ChatMessage, index: number): ChatMessage {
    const { content } = message;
    if (this.#readsParts || !Array.isArray(content)) return message;
    const texts = content.map((part: unknown) => (isJsonObject(part) ? part['text'] : undefined));
    if (texts.every((text) => typeof text === 'string')) return { ...message, content: texts.join('') };
    throw new EngineError(
      'engine.chat.template',
      `the chat template refuses this conversation: messages[${index}].content has parts that are no text`,
    );
  }

  render(messages: readonly ChatMessage[], options: RenderOptions = {}): string {
    const given = messages.map((message, index) => withReasoning(this.#plain(message, index)));
    try {
      return this.#template.render({
        ...this.#tokenizer.namedTokens,
        ...this.#variables,
        messages: given,
        add_generation_prompt: options.addGenerationPrompt ?? false,
        // Transformers defines both, as none: templates ask for `is not none`.
        tools: options.tools ?? null,
        documents: null,
        [STRFTIME]: (format: string) => strftime(this.#now ?? new Date(), format),
      });
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : 'it cannot be rendered';
      throw new EngineError('engine.chat.template', `the chat template refuses this conversation: ${why}`, { cause });
    }
  }

  encodePrompt(messages: readonly ChatMessage[], options: Pick<RenderOptions, 'tools'> = {}): number[] {
    return this.#tokenizer.encode(this.render(messages, { ...options, addGenerationPrompt: true }));
  }

  encodeConversation(messages: readonly ChatMessage[], options: Pick<RenderOptions, 'tools'> = {}): SftExample {
    const ids: number[] = [];
    const lossWeights: number[] = [];
    for (const { text, after, weight } of this.#segments(messages, options)) {
      // An answer begins with a token of its own, as in use, where it is appended to the prompt.
      const part = this.#tokenizer.encode(text, { after });
      const sampled = weight === 0 ? 0 : this.#sampledLength(part);
      part.forEach((id, i) => {
        ids.push(id);
        lossWeights.push(i < sampled ? weight : 0);
      });
    }
    return { ids, lossWeights };
  }

  encodeAnswer(
    messages: readonly ChatMessage[],
    answer: ChatMessage,
    options: Pick<RenderOptions, 'tools'> = {},
  ): number[] {
    const segments = this.#segments([...messages, { ...answer, weight: 1 }], options);
    const last = segments.findLast(({ weight }) => weight > 0);
    const part = last === undefined ? [] : this.#tokenizer.encode(last.text, { after: last.after });
    return part.slice(0, this.#sampledLength(part));
  }

  /** How much of an answer's text the model samples: up to its first end token. */
  #sampledLength(ids: readonly number[]): number {
    const end = ids.findIndex((id) => this.#eos.includes(id));
    return end < 0 ? ids.length : end + 1;
  }

  /** The conversation cut where the assistant begins and ends to speak. */
  #segments(messages: readonly ChatMessage[], options: Pick<RenderOptions, 'tools'>): Segment[] {
    const render = (some: readonly ChatMessage[], addGenerationPrompt: boolean): string =>
      this.render(some, { ...options, addGenerationPrompt });
    const whole = render(messages, false);
    const ends = this.#eos.map((id) => this.#tokenizer.decode([id], { keepSpecialTokens: true }));
    const spans = assistantSpans(render, messages, whole, ends);
    const segments: Segment[] = [];
    let at = 0;
    const cut = (end: number, weight: number): void => {
      if (end > at) segments.push({ text: whole.slice(at, end), after: whole.slice(0, at), weight });
      at = end;
    };
    spans.forEach((span, index) => {
      if (span === undefined) return;
      cut(span.start, 0);
      cut(span.end, messages[index]?.weight ?? 1);
    });
    cut(whole.length, 0);
    return segments;
  }
}

/**
 * A model's chat format: its Jinja template with its tokenizer.
 * @throws EngineError `engine.chat.no_template`, `engine.chat.template` when the template cannot be parsed
 */
export function createChatFormat(options: ChatFormatOptions): ChatFormat {
  const source = options.template ?? options.tokenizer.chatTemplate;
  if (source === undefined) {
    throw new EngineError('engine.chat.no_template', 'the tokenizer has no chat template, and none was given');
  }
  let template: Template;
  try {
    template = new Template(source.replaceAll(/\bstrftime_now\b/g, STRFTIME));
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : 'unknown syntax';
    throw new EngineError('engine.chat.template', `the chat template cannot be parsed: ${why}`, { cause });
  }
  return new JinjaChatFormat(options, source, template);
}

import { Template } from '@huggingface/jinja';
import { EngineError } from '../errors.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { SftExample } from '../types.ts';

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
   * @throws EngineError `engine.chat.mask` when the template rewrites earlier messages, so that no such mask exists
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
}

interface Segment {
  readonly text: string;
  /** Weight in the loss; 0 for context. */
  readonly weight: number;
}

class JinjaChatFormat implements ChatFormat {
  readonly #tokenizer: Tokenizer;
  readonly #template: Template;
  readonly #eos: readonly number[];

  constructor(tokenizer: Tokenizer, template: Template, eos: readonly number[]) {
    this.#tokenizer = tokenizer;
    this.#template = template;
    this.#eos = eos;
  }

  render(messages: readonly ChatMessage[], options: RenderOptions = {}): string {
    try {
      return this.#template.render({
        ...this.#tokenizer.namedTokens,
        messages,
        add_generation_prompt: options.addGenerationPrompt ?? false,
        ...(options.tools && { tools: options.tools }),
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
    for (const { text, weight } of this.#segments(messages, options)) {
      // Each segment by itself, as in use: the prompt is encoded first, and the answer's tokens are appended to it.
      const part = this.#tokenizer.encode(text);
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
    const part = this.#tokenizer.encode(segments.findLast(({ weight }) => weight > 0)?.text ?? '');
    return part.slice(0, this.#sampledLength(part));
  }

  /** How much of an answer's text the model samples: up to its first end token. */
  #sampledLength(ids: readonly number[]): number {
    const end = ids.findIndex((id) => this.#eos.includes(id));
    return end < 0 ? ids.length : end + 1;
  }

  /** The conversation cut where the assistant begins and ends to speak. */
  #segments(messages: readonly ChatMessage[], options: Pick<RenderOptions, 'tools'>): Segment[] {
    const whole = this.render(messages, options);
    const segments: Segment[] = [];
    let at = 0;
    const cut = (text: string, weight: number, index: number): void => {
      if (!whole.startsWith(text) || text.length < at) {
        throw new EngineError(
          'engine.chat.mask',
          `the chat template does not append messages as they come (message ${index}), so what the assistant wrote cannot be told apart`,
        );
      }
      segments.push({ text: whole.slice(at, text.length), weight });
      at = text.length;
    };
    messages.forEach((message, index) => {
      if (message.role !== 'assistant') return;
      cut(this.render(messages.slice(0, index), { ...options, addGenerationPrompt: true }), 0, index);
      cut(this.render(messages.slice(0, index + 1), options), message.weight ?? 1, index);
    });
    segments.push({ text: whole.slice(at), weight: 0 });
    return segments.filter(({ text }) => text.length > 0);
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
    template = new Template(source);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : 'unknown syntax';
    throw new EngineError('engine.chat.template', `the chat template cannot be parsed: ${why}`, { cause });
  }
  const own = options.tokenizer.eosTokenId;
  return new JinjaChatFormat(options.tokenizer, template, options.eosTokenIds ?? (own === undefined ? [] : [own]));
}

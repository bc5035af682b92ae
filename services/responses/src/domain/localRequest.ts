import type { ChatCompletionRequest } from '@tuneloop/contracts/responses/openai';
import { AppError } from '@tuneloop/runtime/errors';

/** What the local engine understands. */
const SUPPORTED: ReadonlySet<string> = new Set([
  'model',
  'messages',
  'n',
  'response_format',
  'seed',
  'stop',
  'stream',
  'stream_options',
  'temperature',
  'top_p',
  'max_tokens',
  'max_completion_tokens',
  'logprobs',
  'top_logprobs',
  'user',
  'metadata',
  'store',
  // Hints that change no answer.
  'safety_identifier',
  'prompt_cache_key',
]);

/** Part of OpenAI's API, but not of the local engine's. */
const KNOWN: ReadonlySet<string> = new Set([
  'audio',
  'frequency_penalty',
  'function_call',
  'functions',
  'logit_bias',
  'modalities',
  'moderation',
  'parallel_tool_calls',
  'prediction',
  'presence_penalty',
  'prompt_cache_retention',
  'reasoning_effort',
  'service_tier',
  'tool_choice',
  'tools',
  'verbosity',
  'web_search_options',
]);

/** Values that ask for what happens anyway. */
function isNeutral(name: string, value: unknown): boolean {
  if (value === null || value === undefined) return true;
  if (name === 'frequency_penalty' || name === 'presence_penalty') return value === 0;
  if (name === 'service_tier') return value === 'auto' || value === 'default';
  if (name === 'modalities') return JSON.stringify(value) === '["text"]';
  if (name === 'tool_choice') return value === 'none';
  if (name === 'logit_bias') return typeof value === 'object' && Object.keys(value).length === 0;
  return false;
}

function refused(code: string, param: string, message: string): AppError {
  return new AppError({ code, status: 400, message, field: param, retry: false });
}

/**
 * Makes sure that the local engine can do all that a request asks.
 * @throws AppError 400 naming the first parameter that it cannot honour
 */
export function checkLocalRequest(request: ChatCompletionRequest): void {
  for (const [name, value] of Object.entries(request)) {
    if (SUPPORTED.has(name) || isNeutral(name, value)) continue;
    throw KNOWN.has(name)
      ? refused('unsupported_parameter', name, `Unsupported parameter: '${name}' is not supported with this model.`)
      : refused('unknown_parameter', name, `Unrecognized request argument supplied: ${name.slice(0, 100)}`);
  }
  request.messages.forEach(checkMessage);
  checkResponseFormat(request.response_format);
  if (typeof request.top_logprobs === 'number' && request.logprobs !== true) {
    throw refused('invalid_value', 'top_logprobs', 'top_logprobs needs logprobs: true.');
  }
}

function checkResponseFormat(format: ChatCompletionRequest['response_format']): void {
  if (!format) return;
  if (!['text', 'json_object', 'json_schema'].includes(format.type)) {
    throw refused(
      'unsupported_value',
      'response_format',
      `response_format.type '${format.type}' is not supported with this model: use text, json_object or json_schema.`,
    );
  }
  if (format.type === 'json_schema' && !format.json_schema?.schema) {
    throw refused('invalid_value', 'response_format', 'response_format.json_schema.schema is required.');
  }
}

function checkMessage(message: ChatCompletionRequest['messages'][number], index: number): void {
  const at = `messages[${index}]`;
  if (message.role === 'tool' || (message.tool_calls?.length ?? 0) > 0) {
    const param = message.role === 'tool' ? `${at}.role` : `${at}.tool_calls`;
    throw refused('unsupported_parameter', param, `${param}: tools are not supported with this model.`);
  }
  if (!Array.isArray(message.content)) {
    if (typeof message.content === 'string' || message.role === 'assistant') return;
    throw refused('invalid_value', `${at}.content`, `${at}.content is required: give a text.`);
  }
  message.content.forEach((part, number) => {
    if (part.type === 'text' && typeof part.text === 'string') return;
    const param = `${at}.content[${number}]`;
    throw refused(
      'unsupported_parameter',
      param,
      `${param}: this model reads text only; ${typeof part.type === 'string' ? part.type.slice(0, 50) : 'unknown'} parts are not supported.`,
    );
  });
}

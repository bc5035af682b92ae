import { createHash } from 'node:crypto';
import type { ChatMessage, ResponseRecord } from '@tuneloop/contracts/responses/events';
import { deterministicId } from '@tuneloop/runtime/ids';

const LINK_HASH_CHARS = 32;

/** The messages before an answer: as they were sent, else the prompt as a user's message. */
export function contextOf(record: Pick<ResponseRecord, 'messages' | 'prompt'>): ChatMessage[] {
  return record.messages !== null && record.messages.length > 0
    ? record.messages
    : [{ role: 'user', content: record.prompt }];
}

/** What the answers to one prompt share: the prompt's id, or else a hash of what was asked and about which picture. */
export function promptKey(record: Pick<ResponseRecord, 'prompt_id' | 'messages' | 'prompt' | 'image_id'>): string {
  if (record.prompt_id !== null) return record.prompt_id;
  return deterministicId('prompt', JSON.stringify(contextOf(record)), record.image_id ?? '');
}

/** Text of a message, or null when it is more than text. */
export function textOf(message: ChatMessage): string | null {
  if (message.tool_calls !== undefined) return null;
  if (message.content === null || message.content === undefined) return '';
  if (typeof message.content === 'string') return message.content;
  const parts = message.content.map((part) =>
    part.type === 'text' && typeof part.text === 'string' ? part.text : null,
  );
  return parts.includes(null) ? null : parts.join('\n');
}

/** Hash of a conversation's texts; spacing and case do not make another one. Null when it holds more than texts. */
export function contextLink(context: readonly ChatMessage[]): string | null {
  const hash = createHash('sha256');
  for (const message of context) {
    const text = textOf(message);
    if (text === null) return null;
    hash.update(`${message.role}\n${text.normalize('NFKC').replace(/\s+/g, ' ').trim().toLowerCase()}\n\0`);
  }
  return hash.digest('hex').slice(0, LINK_HASH_CHARS);
}

/**
 * Equal links are equal inputs and must not lie on two sides of a split. Null where the text may not be all that the
 * model saw: a picture went with it, or only the prompt of an answer about a picture is known.
 */
export function promptLink(record: Pick<ResponseRecord, 'messages' | 'prompt' | 'image_id'>): string | null {
  if (record.messages === null && record.image_id !== null) return null;
  return contextLink(contextOf(record));
}

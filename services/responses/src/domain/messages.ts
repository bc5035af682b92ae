import type { ChatMessage } from '@tuneloop/contracts/responses/events';

type Content = ChatMessage['content'];

/** The text of a message's content: parts other than text are left out. */
export function contentText(content: Content): string {
  if (typeof content === 'string') return content;
  if (!Array.isArray(content)) return '';
  return content.map((part) => (part.type === 'text' && typeof part.text === 'string' ? part.text : '')).join('');
}

/** What a conversation asks: its last user message, or its last message when no user speaks. */
export function promptOf(messages: readonly ChatMessage[]): string {
  const last = messages.findLast((message) => message.role === 'user') ?? messages.at(-1);
  return contentText(last?.content);
}

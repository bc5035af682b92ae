/**
 * How a nano conversation is written as tokens. There is no beginning-of-text token: a turn's marker opens
 * it, and the answer ends with the end token, which is also the padding.
 */
export const END = '<|end|>';
export const USER = '<|user|>';
export const ANSWER = '<|answer|>';
export const SYSTEM = '<|system|>';

/** In the order of their ids, from 0. */
export const SPECIAL_TOKENS = [END, USER, ANSWER, SYSTEM] as const;

/** The same format for programs that render chats by template (Jinja). */
export const CHAT_TEMPLATE = [
  "{% for message in messages %}{% if message['role'] == 'assistant' %}",
  `${ANSWER}{{ message['content'] }}${END}`,
  "{% elif message['role'] == 'system' %}",
  `${SYSTEM}{{ message['content'] }}`,
  '{% else %}',
  `${USER}{{ message['content'] }}`,
  '{% endif %}{% endfor %}',
  `{% if add_generation_prompt %}${ANSWER}{% endif %}`,
].join('');

/** A single-turn prompt up to where the answer begins. */
export function formatPrompt(user: string, system?: string): string {
  return `${system === undefined ? '' : SYSTEM + system}${USER}${user}${ANSWER}`;
}

/** What follows the prompt in training text. */
export function formatAnswer(answer: string): string {
  return answer + END;
}

/**
 * Finds in a rendered conversation what the assistant wrote. Templates do not say: this renders the conversation again,
 * cut off or with other words, and compares.
 */
import { EngineError } from '../errors.ts';

/** Of the end of a prompt, in UTF-16 units: compared to see where an answer begins. */
const OPENING = 6;

/** What is needed of a message here. */
interface Turn {
  readonly role: string;
  readonly content: unknown;
  readonly [field: string]: unknown;
}

export type Render = (messages: readonly Turn[], addGenerationPrompt: boolean) => string;

/** A part of the rendered text, `[start, end)` in UTF-16 units. */
export interface Span {
  readonly start: number;
  readonly end: number;
}

/** Templates may refuse conversations that are cut off, such as an empty one. */
function attempt(render: Render, messages: readonly Turn[], prompt: boolean): string | undefined {
  try {
    return render(messages, prompt);
  } catch {
    return undefined;
  }
}

/**
 * Where the assistant's message at `index` stands, when the prompt that it would have answered is the beginning of the
 * conversation: from there to the end of the conversation up to it, if that is a beginning too; or else to the first end
 * token (templates may write the last message otherwise than earlier ones).
 */
function answering(
  render: Render,
  messages: readonly Turn[],
  index: number,
  whole: string,
  ends: readonly string[],
): Span | undefined {
  const beginning = (count: number, prompt: boolean): number | undefined => {
    const text = attempt(render, messages.slice(0, count), prompt);
    return text !== undefined && whole.startsWith(text) ? text.length : undefined;
  };
  const start = beginning(index, true);
  if (start === undefined) return undefined;
  const end = beginning(index + 1, false);
  if (end !== undefined) return end < start ? undefined : { start, end };
  const stops = ends.flatMap((token) => {
    const at = token === '' ? -1 : whole.indexOf(token, start);
    return at < 0 ? [] : [at + token.length];
  });
  return stops.length === 0 ? undefined : { start, end: Math.min(...stops) };
}

/** The text of a message that its template writes out; what was thought before may be left out of earlier turns. */
function spoken(message: Turn): { readonly kept: string; readonly text: string } | undefined {
  if (typeof message.content !== 'string') return undefined;
  const at = message.content.lastIndexOf('</think>');
  const cut = at < 0 ? 0 : at + '</think>'.length;
  return { kept: message.content.slice(0, cut), text: message.content.slice(cut) };
}

/**
 * The places of all assistant messages, by rendering with marks in place of their words: what stands between the marks
 * must stand between the words. Undefined when the template looks at the words, so that this cannot be.
 */
function marked(render: Render, messages: readonly Turn[], whole: string): (Span | undefined)[] | undefined {
  let number = 0;
  let base = 'xMarkx';
  while (whole.includes(base)) base += 'x';
  const texts: { readonly kept: string; readonly text: string }[] = [];
  const withMarks = messages.map((message) => {
    const parts = message.role === 'assistant' ? spoken(message) : undefined;
    if (parts === undefined) return message;
    texts.push(parts);
    return { ...message, content: `${parts.kept}${base}${number++}y` };
  });
  const rendered = attempt(render, withMarks, false);
  if (rendered === undefined) return undefined;
  const spans: Span[] = [];
  let inMarks = 0;
  let at = 0;
  for (const [i, { kept, text }] of texts.entries()) {
    const mark = `${base}${i}y`;
    const found = rendered.indexOf(mark, inMarks);
    if (found < 0) return undefined;
    const between = rendered.slice(inMarks, found);
    if (!whole.startsWith(between, at)) return undefined;
    inMarks = found + mark.length;
    const start = at + between.length;
    const following = rendered.slice(inMarks, i + 1 < texts.length ? rendered.indexOf(`${base}${i + 1}y`) : undefined);
    const forms = [text, text.trim(), text.trimStart(), text.trimEnd(), text.replace(/^\n+/, '')];
    const form = forms.find((f) => whole.startsWith(f + following, start));
    if (form === undefined) return undefined;
    at = start + form.length;
    // What was thought belongs to the answer where it is written out.
    const thought = kept !== '' && whole.slice(0, start).endsWith(kept) ? kept.length : 0;
    spans.push({ start: start - thought, end: at });
  }
  if (rendered.slice(inMarks) !== whole.slice(at)) return undefined;
  let next = 0;
  return messages.map((message) =>
    message.role === 'assistant' && spoken(message) !== undefined ? spans[next++] : undefined,
  );
}

/**
 * Blanks that the template writes before an answer, and that its prompt does not end with, are the answer's: `[/INST] Hi`
 * after the prompt `[/INST]`.
 */
function withBlanks(span: Span, whole: string, prompt: string | undefined): Span {
  const before = whole.slice(0, span.start).trimEnd();
  const opening = prompt?.trimEnd();
  if (prompt === undefined || opening === undefined || opening.slice(-OPENING) !== before.slice(-OPENING)) return span;
  return { start: Math.min(span.start, before.length + prompt.length - opening.length), end: span.end };
}

/** `span` with the end token that follows it, and the blanks before that. */
function withEnd(span: Span, whole: string, ends: readonly string[]): Span {
  const blanks = /^\s*/.exec(whole.slice(span.end))![0].length;
  const end = ends.find((token) => token !== '' && whole.startsWith(token, span.end + blanks));
  return end === undefined ? span : { start: span.start, end: span.end + blanks + end.length };
}

/**
 * What the assistant wrote of `whole = render(messages, false)`, by message; undefined for other messages.
 * @param ends the texts of tokens that end an answer
 * @throws EngineError `engine.chat.mask` when it cannot be told apart
 */
export function assistantSpans(
  render: Render,
  messages: readonly Turn[],
  whole: string,
  ends: readonly string[],
): (Span | undefined)[] {
  let byMarks: (Span | undefined)[] | undefined;
  const spans = messages.map((message, index): Span | undefined => {
    if (message.role !== 'assistant') return undefined;
    const simple = answering(render, messages, index, whole, ends);
    if (simple !== undefined) return simple;
    byMarks ??= marked(render, messages, whole) ?? [];
    const found = byMarks[index];
    if (found !== undefined) {
      return withEnd(withBlanks(found, whole, attempt(render, messages.slice(0, index), true)), whole, ends);
    }
    throw new EngineError(
      'engine.chat.mask',
      `the chat template rewrites what the assistant wrote (message ${index}), so that it cannot be told apart`,
    );
  });
  let last = 0;
  for (const [index, span] of spans.entries()) {
    if (span === undefined) continue;
    if (span.start < last) {
      throw new EngineError('engine.chat.mask', `the chat template mixes messages (message ${index})`);
    }
    last = span.end;
  }
  return spans;
}

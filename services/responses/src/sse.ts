import { Readable } from 'node:stream';
import { AppError } from '@tuneloop/runtime/errors';

/** Server-sent events as OpenAI's streams use them: `data:` lines, ended by `[DONE]`. */
export const DONE = 'data: [DONE]\n\n';

/** One event may not be longer than this; a server that sends more is broken. */
const MAX_EVENT_CHARS = 4 * 1024 * 1024;
const STREAM_BUFFER_BYTES = 64 * 1024;

export function formatEvent(value: unknown): string {
  return `data: ${JSON.stringify(value)}\n\n`;
}

/** The data of each event of a byte stream, until `[DONE]` or its end. */
export async function* readEvents(body: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let held = '';
  let data: string[] = [];
  for await (const bytes of body) {
    held += decoder.decode(bytes, { stream: true });
    if (held.length > MAX_EVENT_CHARS) throw broken();
    const lines = held.split(/\r\n|\n|\r(?!$)/);
    held = lines.pop() ?? '';
    for (const line of lines) {
      if (line.startsWith('data:')) data.push(line.slice(line.startsWith('data: ') ? 6 : 5));
      else if (line === '' && data.length > 0) {
        const whole = data.join('\n');
        data = [];
        if (whole === '[DONE]') return;
        yield whole;
      }
    }
  }
}

function broken(): AppError {
  return new AppError({
    code: 'responses.provider.answer_invalid',
    status: 502,
    message: 'The model server sent an event that is too long.',
  });
}

/**
 * An answer's chunks as a stream of events. Waits for the first chunk, so that a failure before it is still an error with
 * its status. Closing the stream ends the source.
 */
export async function eventStream(chunks: AsyncGenerator, onError: (error: unknown) => object): Promise<Readable> {
  const first = await chunks.next();
  return Readable.from(events(first, chunks, onError), { objectMode: false, highWaterMark: STREAM_BUFFER_BYTES });
}

async function* events(
  first: IteratorResult<unknown>,
  chunks: AsyncGenerator,
  onError: (error: unknown) => object,
): AsyncGenerator<Buffer> {
  try {
    for (let next = first; !next.done; next = await chunks.next()) yield Buffer.from(formatEvent(next.value));
    yield Buffer.from(DONE);
  } catch (error) {
    // The status has gone out already: OpenAI's clients read an error from an event of its own.
    yield Buffer.from(formatEvent(onError(error)));
  } finally {
    await chunks.return(undefined);
  }
}

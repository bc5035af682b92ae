import { ApiError } from '@tuneloop/client/client';

export interface ToolAnswer {
  [key: string]: unknown;
  content: { type: 'text'; text: string }[];
  structuredContent?: Record<string, unknown>;
  isError?: boolean;
}

/** A refusal in words for the agent. */
export class ToolError extends Error {
  override readonly name = 'ToolError';
}

const UNREACHABLE = 'Tuneloop does not answer. Is it running, and is the URL that this server was started with right?';

/** What a tool answers; what went wrong as text that an agent can act on, never a stack. */
export async function guarded(work: () => Promise<object>): Promise<ToolAnswer> {
  try {
    const value = await work();
    return { content: [{ type: 'text', text: JSON.stringify(value) }], structuredContent: { ...value } };
  } catch (error) {
    return { content: [{ type: 'text', text: reasonOf(error) }], isError: true };
  }
}

function reasonOf(error: unknown): string {
  if (error instanceof ApiError || error instanceof ToolError) return error.message;
  // How fetch says that there was no answer at all.
  return error instanceof TypeError && error.message === 'fetch failed' ? UNREACHABLE : 'The tool failed on this side.';
}

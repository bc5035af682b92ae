/** What the API said no with, or status 0 when it could not be reached. */
export class ApiError extends Error {
  override readonly name = 'ApiError';
  readonly status: number;
  readonly code: string;

  constructor(status: number, code: string, message: string) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

const TIMEOUT_MS = 20_000;
/** Said again later they may well succeed; everything else is final. */
const PASSING: ReadonlySet<number> = new Set([0, 408, 425, 429, 500, 502, 503, 504]);

export function isPassing(error: unknown): boolean {
  return error instanceof ApiError && PASSING.has(error.status);
}

export function isRefusedKey(error: unknown): boolean {
  return error instanceof ApiError && (error.status === 401 || error.status === 403);
}

export interface ApiRequest {
  readonly key: string;
  readonly method?: 'GET' | 'POST' | 'DELETE';
  readonly body?: unknown;
  readonly idempotencyKey?: string;
  readonly signal?: AbortSignal | undefined;
}

/** One request to the console's own origin. @throws ApiError */
export async function send(path: string, request: ApiRequest): Promise<Response> {
  const timeout = AbortSignal.timeout(TIMEOUT_MS);
  let answer: Response;
  try {
    answer = await fetch(path, {
      method: request.method ?? 'GET',
      headers: {
        authorization: `Bearer ${request.key}`,
        ...(request.body === undefined ? {} : { 'content-type': 'application/json' }),
        ...(request.idempotencyKey === undefined ? {} : { 'idempotency-key': request.idempotencyKey }),
      },
      ...(request.body === undefined ? {} : { body: JSON.stringify(request.body) }),
      signal: request.signal ? AbortSignal.any([request.signal, timeout]) : timeout,
    });
  } catch (error) {
    if (request.signal?.aborted) throw error;
    throw new ApiError(0, 'unreachable', 'The server cannot be reached.');
  }
  if (answer.ok) return answer;
  throw await problemOf(answer);
}

/** The same for JSON; `T` is what the contract promises. */
export async function sendJson<T>(path: string, request: ApiRequest): Promise<T> {
  const answer = await send(path, request);
  try {
    return (await answer.json()) as T;
  } catch {
    throw new ApiError(0, 'cut_off', 'The answer was cut off.');
  }
}

async function problemOf(answer: Response): Promise<ApiError> {
  const problem: unknown = await answer.json().catch(() => null);
  const text = (name: string): string | undefined => {
    const value: unknown = typeof problem === 'object' && problem !== null ? Reflect.get(problem, name) : undefined;
    return typeof value === 'string' ? value : undefined;
  };
  return new ApiError(answer.status, text('code') ?? 'unknown', text('detail') ?? answer.statusText);
}

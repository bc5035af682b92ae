import type { Readable } from 'node:stream';
import type { RouteContract } from '@tuneloop/contracts/route';
import type { ServiceName } from '@tuneloop/contracts/services';
import type { Dispatcher } from 'undici';
import { z } from 'zod';
import { AppError } from './errors.ts';

const MAX_ERROR_BYTES = 64 * 1024;

/** `serve` is the model server; its contracts belong to `responses`, so a caller names it by `target`. */
export type CallTarget = ServiceName | 'serve';

/** A request ready to be sent, as often as it takes. */
export interface PreparedCall {
  readonly target: CallTarget;
  readonly operationId: string;
  readonly method: RouteContract['method'];
  readonly url: URL;
  readonly body: string | undefined;
}

const problemBody = z.object({
  code: z.string(),
  detail: z.string(),
  errors: z.array(z.object({ field: z.string() })).optional(),
});

export async function readText(body: Readable, maxBytes: number): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of body) {
    const bytes = Buffer.from(chunk as Uint8Array);
    size += bytes.byteLength;
    if (size > maxBytes) {
      body.destroy();
      throw new Error(`the answer is larger than ${maxBytes} bytes`);
    }
    chunks.push(bytes);
  }
  return Buffer.concat(chunks).toString('utf8');
}

export function parseAnswer(text: string, prepared: PreparedCall): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw brokenAnswer(prepared, error);
  }
}

/** The other side's error as one of ours. Its 4xx is the caller's to see; that it refused our token is not. */
export async function answerError(answer: Dispatcher.ResponseData, prepared: PreparedCall): Promise<AppError> {
  const text = await readText(answer.body, MAX_ERROR_BYTES).catch(() => '');
  let parsed: z.output<typeof problemBody> | undefined;
  try {
    parsed = problemBody.safeParse(JSON.parse(text)).data;
  } catch {
    parsed = undefined;
  }
  const cause = new Error(
    `${prepared.target} answered ${answer.statusCode} to ${prepared.operationId}: ${parsed?.code ?? text.slice(0, 200)}`,
  );
  const status = answer.statusCode;
  if (status === 401) {
    return new AppError({
      code: 'runtime.call.refused',
      status: 500,
      message: 'The services do not accept each other: check that they share one secret.',
      retry: false,
      cause,
    });
  }
  if (status >= 500) {
    return new AppError({
      code: parsed?.code ?? 'runtime.call.failed',
      status: 503,
      message: parsed?.detail ?? `${prepared.target} could not answer. Try again in a moment.`,
      retry: status !== 501 && parsed?.code !== 'runtime.response_invalid',
      cause,
    });
  }
  const field = parsed?.errors?.[0]?.field;
  return new AppError({
    code: parsed?.code ?? `runtime.call.status_${status}`,
    status,
    message: parsed?.detail ?? `${prepared.target} refused the call with status ${status}.`,
    retry: status === 429 || status === 408,
    ...(field === undefined ? {} : { field }),
    cause,
  });
}

export function errorCode(error: unknown): string {
  return typeof error === 'object' && error !== null && 'code' in error ? String(error.code) : '';
}

export function unreachable(prepared: PreparedCall, cause: unknown, signal: AbortSignal | undefined): AppError {
  if (signal?.aborted) {
    return new AppError({
      code: 'runtime.call.aborted',
      status: 503,
      message: 'The call was given up.',
      retry: true,
      cause,
    });
  }
  return new AppError({
    code: 'runtime.call.unreachable',
    status: 503,
    message: `${prepared.target} does not answer. Try again in a moment.`,
    retry: true,
    cause,
  });
}

export function brokenAnswer(prepared: PreparedCall, cause: unknown): AppError {
  return new AppError({
    code: 'runtime.call.answer_invalid',
    status: 500,
    message: `${prepared.target} answered ${prepared.operationId} with something else than its contract says.`,
    retry: false,
    cause,
  });
}

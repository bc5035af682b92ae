import { STATUS_CODES } from 'node:http';
import type { AppError } from '../errors.ts';
import { ValidationError } from './validationError.ts';

export type ErrorShape = 'problem' | 'functions' | 'openai';

/** Which of the three error bodies an address answers with. */
export function errorShapeOf(url: string): ErrorShape {
  const path = url.split('?', 1)[0] ?? '';
  if (path === '/functions/v1' || path.startsWith('/functions/v1/')) return 'functions';
  if (path === '/v1' || path.startsWith('/v1/')) return 'openai';
  return 'problem';
}

export interface ErrorBody {
  readonly contentType: string;
  readonly body: Record<string, unknown>;
}

function problem(error: AppError, requestId: string): Record<string, unknown> {
  const single = error.field === undefined ? undefined : [{ field: error.field, message: error.message }];
  const errors = error instanceof ValidationError ? error.errors : single;
  return {
    type: `urn:tuneloop:problem:${error.code}`,
    title: STATUS_CODES[error.status] ?? 'Error',
    status: error.status,
    detail: error.message,
    code: error.code,
    ...(errors ? { errors } : {}),
    request_id: requestId,
  };
}

/** OpenAI's names for what its SDKs look at; any other code is passed on as it is. */
function openAiCode(error: AppError): string {
  if (error.status === 401) return 'invalid_api_key';
  if (error.code.endsWith('model.not_found')) return 'model_not_found';
  return error.code;
}

function openAiType(status: number): string {
  if (status === 429) return 'rate_limit_error';
  return status >= 500 ? 'server_error' : 'invalid_request_error';
}

/** The body of an error answer in the address' own shape. */
export function errorBody(error: AppError, shape: ErrorShape, requestId: string): ErrorBody {
  if (shape === 'functions') {
    return { contentType: 'application/json; charset=utf-8', body: { success: false, error: error.message } };
  }
  if (shape === 'openai') {
    const body = {
      error: {
        message: error.message,
        type: openAiType(error.status),
        param: error.field ?? null,
        code: openAiCode(error),
      },
    };
    return { contentType: 'application/json; charset=utf-8', body };
  }
  return { contentType: 'application/problem+json; charset=utf-8', body: problem(error, requestId) };
}

import { hasZodFastifySchemaValidationErrors } from 'fastify-type-provider-zod';
import { AppError } from '../errors.ts';
import { ValidationError } from './validationError.ts';

interface Coded {
  readonly code: string;
  readonly statusCode?: unknown;
  readonly severity?: unknown;
}

function isCoded(error: unknown): error is Error & Coded {
  return error instanceof Error && 'code' in error && typeof error.code === 'string';
}

interface Mapped {
  readonly code: string;
  readonly status: number;
  readonly message: string;
}

const BUSY: Mapped = {
  code: 'runtime.postgres.unavailable',
  status: 503,
  message: 'The database is busy or does not answer. Try again in a moment.',
};
const CONFLICT_RETRY: Mapped = {
  code: 'runtime.postgres.contention',
  status: 503,
  message: 'Another change got in the way. Try again.',
};
const OUT_OF_RANGE: Mapped = { code: 'request.value_out_of_range', status: 400, message: 'A value is out of range.' };
const ILL_FORMED: Mapped = {
  code: 'request.value_invalid',
  status: 400,
  message: 'A value does not have the form that its field needs (an id must be a UUID, a time ISO 8601).',
};

/** SQLSTATE to answer; the class (first two characters) decides where the code itself is not listed. */
const SQLSTATE: Readonly<Record<string, Mapped>> = {
  '22001': { code: 'request.value_too_long', status: 400, message: 'A text is too long for its field.' },
  '22003': OUT_OF_RANGE,
  '22008': OUT_OF_RANGE,
  '22021': { code: 'request.text_invalid', status: 400, message: 'A text holds bytes that are not UTF-8 or a NUL.' },
  '22P05': { code: 'request.text_invalid', status: 400, message: 'A text holds a character that cannot be stored.' },
  '22P02': ILL_FORMED,
  '22007': ILL_FORMED,
  '23503': { code: 'request.reference_missing', status: 409, message: 'Something that this refers to does not exist.' },
  '23505': { code: 'request.duplicate', status: 409, message: 'This already exists.' },
  '23514': { code: 'request.value_refused', status: 400, message: 'A value breaks a rule of its field.' },
  '40001': CONFLICT_RETRY,
  '40P01': CONFLICT_RETRY,
  '55P03': CONFLICT_RETRY,
  '57014': { code: 'runtime.postgres.timeout', status: 503, message: 'The database took too long. Try again.' },
};
const SQLSTATE_CLASS: Readonly<Record<string, Mapped>> = { '08': BUSY, '53': BUSY, '57': BUSY };

const NETWORK_CODES = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'ENOTFOUND',
  'EAI_AGAIN',
]);
/** node-postgres reports a lost connection as a plain error. */
const LOST_CONNECTION =
  /^(Connection terminated|Client has encountered a connection error|timeout exceeded when trying to connect)/;

function mapPostgres(error: Error): Mapped | undefined {
  if (LOST_CONNECTION.test(error.message)) return BUSY;
  if (!isCoded(error)) return undefined;
  if (NETWORK_CODES.has(error.code)) {
    return {
      code: 'runtime.unavailable',
      status: 503,
      message: 'Something this needs does not answer. Try again in a moment.',
    };
  }
  if (typeof error.severity !== 'string' || !/^[0-9A-Z]{5}$/.test(error.code)) return undefined;
  return SQLSTATE[error.code] ?? SQLSTATE_CLASS[error.code.slice(0, 2)];
}

/** Fastify's and its plugins' own refusals. */
const FRAMEWORK: Readonly<Record<string, Mapped>> = {
  FST_ERR_CTP_INVALID_MEDIA_TYPE: {
    code: 'http.media_type_unsupported',
    status: 415,
    message:
      'This content type is not accepted here. Send application/json, or multipart/form-data where a file is expected.',
  },
  FST_ERR_CTP_BODY_TOO_LARGE: {
    code: 'http.body_too_large',
    status: 413,
    message: 'The body is too large for this address.',
  },
  FST_ERR_CTP_EMPTY_JSON_BODY: {
    code: 'http.body_missing',
    status: 400,
    message: 'The body is empty: send a JSON value.',
  },
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: {
    code: 'http.body_incomplete',
    status: 400,
    message: 'The body does not have the length that Content-Length says.',
  },
  FST_ERR_BAD_URL: { code: 'http.url_invalid', status: 400, message: 'The address holds a broken percent escape.' },
  FST_REQ_FILE_TOO_LARGE: {
    code: 'http.file_too_large',
    status: 413,
    message: 'The file is too large for this address.',
  },
  FST_FILES_LIMIT: { code: 'http.too_many_files', status: 413, message: 'There are too many files in one request.' },
  FST_FIELDS_LIMIT: { code: 'http.too_many_fields', status: 413, message: 'There are too many fields in one request.' },
  FST_PARTS_LIMIT: { code: 'http.too_many_parts', status: 413, message: 'There are too many parts in one request.' },
  FST_INVALID_MULTIPART_CONTENT_TYPE: {
    code: 'http.media_type_unsupported',
    status: 415,
    message: 'A file is expected here: send multipart/form-data.',
  },
};

/** Any error as the answer that the caller may see; the original stays in `cause` for the log. */
export function toAppError(error: unknown): AppError {
  if (error instanceof AppError) return error;
  if (hasZodFastifySchemaValidationErrors(error)) {
    return new ValidationError(
      error.validation.map((issue) => ({
        field: issue.instancePath.split('/').filter(Boolean).join('.') || 'request',
        message: issue.message ?? 'is not valid',
      })),
    );
  }
  if (error instanceof Error) {
    const mapped = mapPostgres(error) ?? (isCoded(error) ? FRAMEWORK[error.code] : undefined);
    if (mapped) return new AppError({ ...mapped, retry: mapped.status === 503, cause: error });
    if (isCoded(error) && typeof error.statusCode === 'number' && error.statusCode >= 400 && error.statusCode < 500) {
      return new AppError({
        code: `http.${error.code.toLowerCase().replace(/^fst_(err_)?/, '')}`,
        status: error.statusCode,
        message: error.message,
        cause: error,
      });
    }
  }
  return new AppError({
    code: 'runtime.internal',
    status: 500,
    message: 'Something went wrong on this side. The request id finds it in the log.',
    retry: true,
    cause: error,
  });
}

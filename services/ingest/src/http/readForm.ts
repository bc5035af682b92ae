import { createHash } from 'node:crypto';
import { AppError, badRequest } from '@tuneloop/runtime/errors';
import { checkJsonValue } from '@tuneloop/runtime/http/jsonBody';
import { ValidationError } from '@tuneloop/runtime/http/validationError';
import { fieldErrors } from '@tuneloop/runtime/zodIssues';
import type { FastifyRequest } from 'fastify';
import type { z } from 'zod';
import { Limiter } from '../limiter.ts';

const MAX_FIELDS = 30;
const MAX_FIELD_BYTES = 256 * 1024;
/** A form that is slower than this gives its place to another. */
const READ_TIMEOUT_MS = 120_000;
const MAX_READING = 32;
const MAX_WAITING = 256;

/** A form as it came: one file and its text fields. */
export interface UploadForm {
  readonly file: { readonly name: string | undefined; readonly bytes: Buffer };
  readonly fields: Readonly<Record<string, string>>;
}

export interface FormLimits {
  readonly maxFileBytes: number;
  readonly tooLarge: () => AppError;
}

/** Reads forms with one file into memory, a bounded number at a time; what is cut off leaves nothing behind. */
export class FormReader {
  readonly #limiter = new Limiter({ concurrency: MAX_READING, maxWaiting: MAX_WAITING, what: 'uploads' });

  /** @throws AppError 4xx naming the field. */
  read(request: FastifyRequest, limits: FormLimits): Promise<UploadForm> {
    return this.#limiter.run(() => readForm(request, limits));
  }
}

async function readForm(request: FastifyRequest, limits: FormLimits): Promise<UploadForm> {
  if (!request.isMultipart()) {
    throw new AppError({
      code: 'http.media_type_unsupported',
      status: 415,
      message: 'Content-Type must be multipart/form-data with the file in the field "file"',
      field: 'Content-Type',
    });
  }
  const slow = setTimeout(() => request.raw.destroy(), READ_TIMEOUT_MS);
  try {
    return await readParts(request, limits);
  } catch (error) {
    throw formError(error, limits);
  } finally {
    clearTimeout(slow);
  }
}

async function readParts(request: FastifyRequest, limits: FormLimits): Promise<UploadForm> {
  const fields: Record<string, string> = {};
  let file: UploadForm['file'] | undefined;
  // The name is wanted as it was sent: a path in it is refused, not quietly cut off.
  const parts = request.parts({
    preservePath: true,
    limits: { files: 1, fields: MAX_FIELDS, fieldSize: MAX_FIELD_BYTES, fileSize: limits.maxFileBytes },
  });
  for await (const part of parts) {
    if (part.type === 'file') {
      if (part.fieldname !== 'file') {
        throw badRequest('ingest.form.unknown_file', `file is missing: it was sent as "${part.fieldname}"`, 'file');
      }
      file = { name: part.filename === '' ? undefined : part.filename, bytes: await part.toBuffer() };
      continue;
    }
    const name = part.fieldname;
    if (name === 'file') throw badRequest('ingest.form.file_expected', 'file must be a file, not a text', 'file');
    if (Object.hasOwn(fields, name)) throw badRequest('ingest.form.repeated', `${name} is given more than once`, name);
    if (part.valueTruncated) throw badRequest('ingest.form.field_too_long', `${name} is too long`, name);
    const value = typeof part.value === 'string' ? part.value : JSON.stringify(part.value);
    if (value.includes('\0')) throw badRequest('request.nul_character', `${name} holds a NUL character`, name);
    fields[name] = value;
  }
  if (!file) throw badRequest('ingest.form.file_missing', 'file is missing: send it in a field "file"', 'file');
  return { file, fields };
}

/** Broken and oversized forms are the sender's to mend, however the parser puts it. */
function formError(error: unknown, limits: FormLimits): AppError {
  if (error instanceof AppError) return error;
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  if (code === 'FST_REQ_FILE_TOO_LARGE') return limits.tooLarge();
  if (code === 'FST_FILES_LIMIT') return badRequest('ingest.form.too_many_files', 'file must be a single file', 'file');
  if (code === 'FST_FIELDS_LIMIT' || code === 'FST_PARTS_LIMIT') {
    return badRequest('ingest.form.too_many_fields', `the form has more than ${MAX_FIELDS} fields`, 'body');
  }
  return new AppError({
    code: 'ingest.form.broken',
    status: 400,
    message: 'body is not a whole multipart/form-data form: it breaks off or its parts cannot be told apart',
    field: 'body',
    retry: false,
    cause: error,
  });
}

/** The form's text fields by their schema. @throws ValidationError naming each field. */
export function parseFields<S extends z.ZodType>(schema: S, fields: Readonly<Record<string, string>>): z.output<S> {
  // An empty text is how forms say that a field is left out.
  const given = Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== ''));
  checkMetadata(given.metadata);
  const result = schema.safeParse(given);
  if (!result.success) throw new ValidationError(fieldErrors(result.error, given, 'body'), 'body');
  return result.data;
}

/** What no JSON body may hold, no JSON in a field may hold either. Text that is no JSON at all is the schema's to refuse. */
function checkMetadata(text: string | undefined): void {
  if (text === undefined) return;
  let metadata: unknown;
  try {
    metadata = JSON.parse(text);
  } catch {
    return;
  }
  checkJsonValue({ metadata }, 'metadata');
}

/** What a form is, for an Idempotency-Key: the same key with another file or field is another request. */
export function formContent(form: UploadForm): unknown {
  const sha256 = createHash('sha256').update(form.file.bytes).digest('hex');
  return { fields: form.fields, file: { name: form.file.name ?? null, sha256 } };
}

import { createHash } from 'node:crypto';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { AppError } from '../errors.ts';

/** A strong tag of a row's version, or of any JSON value's content. */
export function etagOf(version: string | number | object): string {
  if (typeof version === 'object') {
    return `"${createHash('sha256').update(JSON.stringify(version)).digest('base64url').slice(0, 27)}"`;
  }
  return `"${String(version).replaceAll(/[^\w.:-]/g, '_')}"`;
}

function tags(header: string): string[] {
  return header.split(',').map((tag) => tag.trim());
}

/** Sets `ETag`; true when the caller has this version already, and the status is then 304. */
export function notModified(request: FastifyRequest, reply: FastifyReply, etag: string): boolean {
  void reply.header('etag', etag);
  const header = request.headers['if-none-match'];
  if (header === undefined) return false;
  const known = tags(header).some((tag) => tag === '*' || tag.replace(/^W\//, '') === etag);
  if (known) void reply.status(304);
  return known;
}

/**
 * For routes where people edit: the change is made only to the version that was read.
 * @throws AppError 428 without `If-Match` (unless `optional`), 412 when the version has moved on.
 */
export function requireIfMatch(
  request: FastifyRequest,
  etag: string,
  options: { readonly optional?: boolean } = {},
): void {
  const header = request.headers['if-match'];
  if (header === undefined) {
    if (options.optional) return;
    throw new AppError({
      code: 'http.precondition_required',
      status: 428,
      message: "Send If-Match with the ETag that you read, so that no one else's change is lost.",
      field: 'If-Match',
    });
  }
  if (tags(header).some((tag) => tag === '*' || tag === etag)) return;
  throw new AppError({
    code: 'http.precondition_failed',
    status: 412,
    message: 'Someone has changed this since you read it. Read it again and repeat the change.',
    field: 'If-Match',
  });
}

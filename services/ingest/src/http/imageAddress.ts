import { deriveBytes } from '@tuneloop/runtime/auth/keys';
import { AppError } from '@tuneloop/runtime/errors';
import type { FastifyRequest } from 'fastify';
import type { IngestContext } from '../config.ts';
import { addressEnd, signImageToken, verifyImageToken } from '../domain/imageToken.ts';

const HOST = /^(?:[a-z0-9.-]+|\[[0-9a-f:]+\])(?::\d{1,5})?$/i;

/**
 * Addresses that show a picture without credentials, since an <img> sends none: signed, for one picture, for a time.
 * Whoever has the address has the picture until then, or until it is erased; nothing else can be had with it.
 */
export class ImageAddresses {
  readonly #ctx: IngestContext;
  readonly #key: Buffer;

  constructor(ctx: IngestContext) {
    this.#ctx = ctx;
    this.#key = deriveBytes(ctx.base.TUNELOOP_SECRET, 'ingest.image-address');
  }

  /** Relative to the gateway. Without `seconds` it lives one to two hours and is the same within the hour. */
  address(projectId: string, imageId: string, seconds?: number): { url: string; expiresAt: Date } {
    const end = addressEnd(this.#ctx.clock(), seconds);
    const token = signImageToken(this.#key, { projectId, imageId }, end);
    return { url: `/api/v1/images/${imageId}/view?token=${token}`, expiresAt: new Date(end * 1000) };
  }

  /** The project of the picture. @throws AppError 403. */
  projectOf(imageId: string, token: string): string {
    const projectId = verifyImageToken(this.#key, token, imageId, this.#ctx.clock());
    if (projectId !== undefined) return projectId;
    throw new AppError({
      code: 'ingest.image.token_refused',
      status: 403,
      message: 'token is not valid for this picture any more: take a new content_url from GET /api/v1/images/{id}',
      field: 'token',
    });
  }

  /** Scheme and host under which the caller knows us. */
  origin(request: FastifyRequest): string {
    const { PUBLIC_URL } = this.#ctx.config;
    if (PUBLIC_URL !== undefined) return PUBLIC_URL.replace(/\/+$/, '');
    const first = (name: string): string | undefined => {
      const value = request.headers[name];
      return (Array.isArray(value) ? value[0] : value)?.split(',', 1)[0]?.trim();
    };
    const host = [first('x-forwarded-host'), first('host')].find((value) => value !== undefined && HOST.test(value));
    const scheme = first('x-forwarded-proto') === 'https' ? 'https' : 'http';
    return host === undefined ? '' : `${scheme}://${host}`;
  }
}

import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { exportJWK, generateKeyPair, type JWK, SignJWT } from 'jose';

const SESSION_SECONDS = 3_600;
const BUCKET = 'tuneloop';

/** A person who may sign in, with the claims that an administrator gave. */
export interface Person {
  readonly id: string;
  readonly email: string;
  readonly password: string;
  readonly appMetadata: Readonly<Record<string, unknown>>;
  readonly userMetadata?: Readonly<Record<string, unknown>>;
}

export interface Signing {
  readonly algorithm: 'HS256' | 'ES256';
  readonly key: Parameters<SignJWT['sign']>[0];
  /** The public half, for ES256. */
  readonly jwk?: JWK;
}

/** A shared secret, as older Supabase projects sign with, or a key pair, as newer ones do. */
export async function makeSigning(secret?: string): Promise<Signing> {
  if (secret !== undefined) return { algorithm: 'HS256', key: new TextEncoder().encode(secret) };
  const { privateKey, publicKey } = await generateKeyPair('ES256');
  return { algorithm: 'ES256', key: privateKey, jwk: { ...(await exportJWK(publicKey)), kid: 'k1', alg: 'ES256' } };
}

/**
 * As much of a Supabase project as sign-in and storage need: `/auth/v1` (password and refresh grants, user, key set)
 * and one bucket of `/storage/v1`, spoken to by `@supabase/supabase-js`.
 */
export class SupabaseServer {
  readonly #people: readonly Person[];
  readonly #signing: Signing;
  readonly #http = createServer((request, response) => void this.#receive(request, response));
  /** What the bucket holds. */
  readonly objects = new Map<string, { bytes: Buffer; contentType: string }>();
  readonly serviceRoleKey = 'service-role';
  readonly bucket = BUCKET;

  constructor(people: readonly Person[], signing: Signing) {
    this.#people = people;
    this.#signing = signing;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#http.address() as AddressInfo).port}`;
  }

  async start(): Promise<this> {
    await new Promise<void>((resolve) => this.#http.listen(0, '127.0.0.1', resolve));
    return this;
  }

  stop(): void {
    this.#http.closeAllConnections();
    this.#http.close();
  }

  /** An access token; `changes` replace claims, `signing` and `expiresAt` let a test forge one. */
  async token(
    person: Person,
    changes: Readonly<Record<string, unknown>> = {},
    { signing = this.#signing, expiresAt }: { readonly signing?: Signing; readonly expiresAt?: Date } = {},
  ): Promise<string> {
    const claims = {
      iss: `${this.url}/auth/v1`,
      sub: person.id,
      aud: 'authenticated',
      role: 'authenticated',
      email: person.email,
      app_metadata: person.appMetadata,
      user_metadata: person.userMetadata ?? {},
      ...changes,
    };
    return new SignJWT(claims)
      .setProtectedHeader({ alg: signing.algorithm, typ: 'JWT', ...(signing.jwk ? { kid: 'k1' } : {}) })
      .setIssuedAt(expiresAt === undefined ? undefined : new Date(expiresAt.getTime() - SESSION_SECONDS * 1000))
      .setExpirationTime(expiresAt ?? `${SESSION_SECONDS}s`)
      .sign(signing.key);
  }

  async #receive(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const { pathname, searchParams } = new URL(request.url ?? '/', 'http://x');
    const body = Buffer.concat(chunks);
    const json = (status: number, value: unknown) =>
      void response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value));
    if (pathname === '/auth/v1/.well-known/jwks.json') {
      return json(200, { keys: this.#signing.jwk ? [this.#signing.jwk] : [] });
    }
    if (pathname === '/auth/v1/token') {
      const given = JSON.parse(body.toString()) as { email?: string; password?: string; refresh_token?: string };
      const person = this.#people.find((one) =>
        searchParams.get('grant_type') === 'refresh_token'
          ? given.refresh_token === `refresh-${one.id}`
          : given.email === one.email && given.password === one.password,
      );
      if (!person) return json(400, { code: 400, error_code: 'invalid_credentials', msg: 'Invalid login credentials' });
      return json(200, {
        access_token: await this.token(person),
        token_type: 'bearer',
        expires_in: SESSION_SECONDS,
        refresh_token: `refresh-${person.id}`,
        expires_at: Math.floor(Date.now() / 1000) + SESSION_SECONDS,
        user: { id: person.id, aud: 'authenticated', email: person.email, app_metadata: person.appMetadata },
      });
    }
    if (pathname.startsWith('/storage/v1/')) return this.#store(request, response, pathname, body);
    json(404, { message: 'not here' });
  }

  #store(request: IncomingMessage, response: ServerResponse, pathname: string, body: Buffer): void {
    const json = (status: number, value: unknown) =>
      void response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value));
    if (request.headers.authorization !== `Bearer ${this.serviceRoleKey}`) {
      return json(401, { statusCode: '401', error: 'Unauthorized', message: 'no' });
    }
    const path = pathname.slice('/storage/v1/object/'.length);
    const missing = () => json(400, { statusCode: '404', error: 'not_found', message: 'Object not found' });
    if (request.method === 'DELETE') {
      const { prefixes } = JSON.parse(body.toString()) as { prefixes: string[] };
      for (const prefix of prefixes) this.objects.delete(prefix);
      return json(200, []);
    }
    const key = path.replace(/^info\//, '').slice(BUCKET.length + 1);
    if (request.method === 'POST') {
      this.objects.set(key, uploaded(request.headers['content-type'] ?? '', body));
      return json(200, { Key: `${BUCKET}/${key}`, Id: key });
    }
    const found = this.objects.get(key);
    if (!found) return missing();
    if (path.startsWith('info/')) return json(200, { id: key, name: key, size: found.bytes.byteLength });
    response.writeHead(200, { 'content-type': found.contentType }).end(found.bytes);
  }
}

/** The client sends buffers as they are, and Blobs as one part of a form. */
function uploaded(contentType: string, body: Buffer): { bytes: Buffer; contentType: string } {
  const boundary = /^multipart\/form-data; ?boundary=(.+)$/.exec(contentType)?.[1];
  if (boundary === undefined) return { bytes: body, contentType };
  const part = body
    .toString('latin1')
    .split(`--${boundary}`)
    .find((candidate) => /filename=/.test(candidate.slice(0, 300)));
  const start = (part?.indexOf('\r\n\r\n') ?? -4) + 4;
  return {
    bytes: Buffer.from(part?.slice(start, -2) ?? '', 'latin1'),
    contentType: /content-type: (.+)/i.exec(part ?? '')?.[1]?.trim() ?? '',
  };
}

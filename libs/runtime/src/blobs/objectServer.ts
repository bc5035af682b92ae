import { createHash } from 'node:crypto';
import { createServer } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface ObjectServer {
  readonly url: string;
  readonly objects: Map<string, { readonly bytes: Buffer; readonly contentType: string }>;
  readonly requests: { readonly method: string; readonly url: string; readonly headers: IncomingMessage['headers'] }[];
  /** How many of the next requests to fail with this status. */
  fail: { status: number; times: number };
  close(): Promise<void>;
}

type Handle = (request: IncomingMessage, response: ServerResponse, body: Buffer, server: ObjectServer) => void;

async function objectServer(handle: Handle): Promise<ObjectServer> {
  const http = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      server.requests.push({ method: request.method ?? '', url: request.url ?? '', headers: request.headers });
      if (server.fail.times > 0) {
        server.fail.times--;
        response.writeHead(server.fail.status).end();
        return;
      }
      handle(request, response, Buffer.concat(chunks), server);
    });
  });
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
  const server: ObjectServer = {
    url: `http://127.0.0.1:${(http.address() as AddressInfo).port}`,
    objects: new Map(),
    requests: [],
    fail: { status: 500, times: 0 },
    close: async () => {
      http.closeAllConnections();
      await new Promise((resolve) => http.close(resolve));
    },
  };
  return server;
}

const SIGV4 =
  /^AWS4-HMAC-SHA256 Credential=AKTEST\/\d{8}\/eu-test-1\/s3\/aws4_request, SignedHeaders=[\w;-]+, Signature=[0-9a-f]{64}$/;

/** A loopback server that speaks as much S3 as the store uses: PUT, GET, HEAD, DELETE of objects in a path-style bucket. */
export function startS3Server(bucket: string): Promise<ObjectServer> {
  return objectServer((request, response, body, server) => {
    const xml = (status: number, code: string) =>
      response
        .writeHead(status, { 'content-type': 'application/xml' })
        .end(
          request.method === 'HEAD'
            ? undefined
            : `<?xml version="1.0"?><Error><Code>${code}</Code><Message>${code}</Message></Error>`,
        );
    if (!SIGV4.test(request.headers.authorization ?? '')) return xml(403, 'AccessDenied');
    const path = new URL(request.url ?? '/', 'http://x').pathname;
    if (!path.startsWith(`/${bucket}/`)) return xml(404, 'NoSuchBucket');
    const key = path.slice(bucket.length + 2);
    const found = server.objects.get(key);
    switch (request.method) {
      case 'PUT': {
        if (request.headers['x-amz-content-sha256'] !== createHash('sha256').update(body).digest('hex'))
          return xml(400, 'XAmzContentSHA256Mismatch');
        server.objects.set(key, { bytes: body, contentType: request.headers['content-type'] ?? '' });
        return response.writeHead(200, { etag: '"x"' }).end();
      }
      case 'DELETE':
        server.objects.delete(key);
        return response.writeHead(204).end();
      default:
        if (!found) return xml(404, 'NoSuchKey');
        response.writeHead(200, { 'content-length': found.bytes.byteLength, 'content-type': found.contentType });
        return response.end(request.method === 'HEAD' ? undefined : found.bytes);
    }
  });
}

/** A loopback server that speaks as much of Supabase's storage protocol as the store uses. */
export function startSupabaseServer(bucket: string, key: string): Promise<ObjectServer> {
  return objectServer((request, response, body, server) => {
    const json = (status: number, value: unknown) =>
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value));
    if (request.headers.authorization !== `Bearer ${key}` || request.headers.apikey !== key)
      return json(401, { statusCode: '401', error: 'Unauthorized', message: 'no' });
    const path = new URL(request.url ?? '/', 'http://x').pathname;
    const missing = () => json(400, { statusCode: '404', error: 'not_found', message: 'Object not found' });
    const info = `/storage/v1/object/info/${bucket}/`;
    const object = `/storage/v1/object/${bucket}/`;
    if (request.method === 'GET' && path.startsWith(info)) {
      const found = server.objects.get(path.slice(info.length));
      return found
        ? json(200, { id: 'x', name: 'x', size: found.bytes.byteLength, content_type: found.contentType })
        : missing();
    }
    if (request.method === 'DELETE' && path === object.slice(0, -1)) {
      const { prefixes } = JSON.parse(body.toString()) as { prefixes: string[] };
      for (const prefix of prefixes) server.objects.delete(prefix);
      return json(200, []);
    }
    if (!path.startsWith(object))
      return json(404, { statusCode: '404', error: 'Bucket not found', message: 'Bucket not found' });
    const name = path.slice(object.length);
    if (request.method === 'POST') {
      const file = uploadedFile(request.headers['content-type'] ?? '', body);
      if (server.objects.has(name) && request.headers['x-upsert'] !== 'true')
        return json(400, { statusCode: '409', error: 'Duplicate', message: 'The resource already exists' });
      server.objects.set(name, file);
      return json(200, { Key: `${bucket}/${name}`, Id: 'x' });
    }
    const found = server.objects.get(name);
    if (!found) return missing();
    return response
      .writeHead(200, { 'content-type': found.contentType, 'content-length': found.bytes.byteLength })
      .end(found.bytes);
  });
}

/** The client sends buffers as they are and Blobs as one part of a form. */
function uploadedFile(contentType: string, body: Buffer): { bytes: Buffer; contentType: string } {
  const boundary = /^multipart\/form-data; ?boundary=(.+)$/.exec(contentType)?.[1];
  if (boundary === undefined) return { bytes: body, contentType };
  const text = body.toString('latin1');
  const part = text.split(`--${boundary}`).find((candidate) => /filename=/.test(candidate.slice(0, 300)));
  if (part === undefined) throw new Error('a form without a file');
  const [head = ''] = part.split('\r\n\r\n', 1);
  const content = part.slice(head.length + 4, -2);
  return { bytes: Buffer.from(content, 'latin1'), contentType: /content-type: (.+)/i.exec(head)?.[1]?.trim() ?? '' };
}

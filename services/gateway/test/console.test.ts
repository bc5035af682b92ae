import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { startTestService, type TestSystem } from '@tuneloop/testkit/service';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { gatewayService } from '../src/service.ts';

const PAGE = '<!doctype html><title>console</title>';

let folder: string;
let system: TestSystem;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tuneloop-console-'));
  await mkdir(join(folder, 'assets'));
  await writeFile(join(folder, 'index.html'), PAGE);
  await writeFile(join(folder, 'assets/app-abc.js'), 'let a;');
  await writeFile(join(folder, 'assets/app-abc.js.gz'), gzipSync('let a;'));
  await writeFile(join(folder, '.sources'), 'hash');
  system = await startTestService(gatewayService, { env: { CONSOLE_DIR: folder } });
});
afterAll(async () => {
  await system.stop();
  await rm(folder, { recursive: true });
});

const get = (path: string, init: RequestInit = {}) => fetch(`${system.url('gateway')}${path}`, init);

describe('the console', () => {
  it.each(['/', '/review', '/review?from=mail'])('has its page at %s, asked for each time', async (path) => {
    const answer = await get(path);
    expect(answer.status).toBe(200);
    expect(await answer.text()).toBe(PAGE);
    expect(answer.headers.get('content-type')).toContain('text/html');
    expect(answer.headers.get('cache-control')).toBe('no-cache');
    const policy = answer.headers.get('content-security-policy') ?? '';
    expect(policy).toContain("script-src 'self'");
    expect(policy).toContain("img-src 'self' data: blob:");
    const known = { 'if-none-match': answer.headers.get('etag')!, 'cache-control': 'max-age=0' };
    const again = await get(path, { headers: known });
    expect(again.status).toBe(304);
  });

  it('has files that are kept for ever, compressed where the browser can', async () => {
    const answer = await get('/assets/app-abc.js', { headers: { 'accept-encoding': 'gzip' } });
    expect(await answer.text()).toBe('let a;');
    expect(answer.headers.get('content-encoding')).toBe('gzip');
    expect(answer.headers.get('content-type')).toContain('javascript');
    expect(answer.headers.get('cache-control')).toBe('public, max-age=31536000, immutable');
    const plain = await get('/assets/app-abc.js', { headers: { 'accept-encoding': 'identity' } });
    expect(plain.headers.get('content-encoding')).toBeNull();
    expect(await plain.text()).toBe('let a;');
  });

  it.each(['/assets/none.js', '/.sources', '/reviews', '/assets/..%2f.sources', '/api/v1/none', '/api/none'])(
    'leaves %s a 404 in the shape of its address',
    async (path) => {
      const answer = await get(path);
      expect(answer.status).toBe(404);
      expect(answer.headers.get('content-type')).toContain('application/problem+json');
    },
  );

  it('leaves other doors as they are', async () => {
    expect((await get('/v1/none')).status).toBe(404);
    expect(await (await get('/v1/none')).json()).toHaveProperty('error.message');
    expect((await get('/review', { method: 'POST' })).status).toBe(405);
    expect((await get('/healthz')).status).toBe(200);
  });
});

describe('without a built console', () => {
  it('the gateway serves the API alone', async () => {
    const bare = await startTestService(gatewayService, { env: { CONSOLE_DIR: join(folder, 'assets') } });
    try {
      expect((await fetch(`${bare.url('gateway')}/review`)).status).toBe(404);
      expect((await fetch(`${bare.url('gateway')}/openapi.json`)).status).toBe(200);
    } finally {
      await bare.stop();
    }
  });
});

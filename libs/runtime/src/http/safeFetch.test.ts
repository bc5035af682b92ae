import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AppError } from '../errors.ts';
import { isPublicAddress, SafeFetcher } from './safeFetch.ts';

const LIMITS = { maxBytes: 1_000, timeoutMs: 5_000 };

async function failure(promise: Promise<unknown>): Promise<AppError> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof AppError) return error;
    throw error;
  }
  throw new Error('it was fetched');
}

/** First and last address of each block that is not of the public internet, by its RFC. */
const BLOCKS: [string, string, string][] = [
  ['this network', '0.0.0.0', '0.255.255.255'],
  ['private 10', '10.0.0.0', '10.255.255.255'],
  ['carrier NAT', '100.64.0.0', '100.127.255.255'],
  ['loopback', '127.0.0.0', '127.255.255.255'],
  ['link-local, cloud metadata', '169.254.0.0', '169.254.255.255'],
  ['private 172', '172.16.0.0', '172.31.255.255'],
  ['protocol assignments', '192.0.0.0', '192.0.0.255'],
  ['documentation 1', '192.0.2.0', '192.0.2.255'],
  ['private 192', '192.168.0.0', '192.168.255.255'],
  ['benchmarking', '198.18.0.0', '198.19.255.255'],
  ['documentation 2', '198.51.100.0', '198.51.100.255'],
  ['documentation 3', '203.0.113.0', '203.0.113.255'],
  ['multicast', '224.0.0.0', '239.255.255.255'],
  ['reserved, broadcast', '240.0.0.0', '255.255.255.255'],
];
const number = (ip: string) => ip.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
const dotted = (n: number) => [24, 16, 8, 0].map((shift) => (n >>> shift) & 255).join('.');

describe('isPublicAddress', () => {
  it.each(BLOCKS)('refuses all of %s, plain and mapped', (_name, first, last) => {
    fc.assert(
      fc.property(fc.integer({ min: number(first), max: number(last) }), (n) => {
        const v4 = dotted(n);
        const hex = `${(n >>> 16).toString(16)}:${(n & 0xffff).toString(16)}`;
        for (const address of [v4, `::ffff:${v4}`, `::ffff:${hex}`, `64:ff9b::${hex}`, `2002:${hex}::1`, `::${v4}`]) {
          expect([address, isPublicAddress(address)]).toEqual([address, false]);
        }
      }),
      { numRuns: 50, examples: [[number(first)], [number(last)]] },
    );
  });

  it('takes every other IPv4 address', () => {
    const blocked = BLOCKS.map(([, first, last]) => [number(first), number(last)] as const);
    // 192.88.99.0/24 (the old 6to4 relay) and AS112's blocks are special as well; either answer is right for them.
    const special = [
      ['192.88.99.0', '192.88.99.255'],
      ['192.31.196.0', '192.31.196.255'],
      ['192.52.193.0', '192.52.193.255'],
      ['192.175.48.0', '192.175.48.255'],
    ].map(([first, last]) => [number(first!), number(last!)] as const);
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 ** 32 - 1 }), (n) => {
        fc.pre(![...blocked, ...special].some(([first, last]) => n >= first && n <= last));
        expect([dotted(n), isPublicAddress(dotted(n))]).toEqual([dotted(n), true]);
      }),
      { numRuns: 300 },
    );
  });

  it.each([
    '::',
    '::1',
    'fe80::1',
    'fec0::1',
    'fc00::1',
    'fdff::1',
    'ff02::1',
    '2001:db8::1',
    '2001::1',
    '100::1',
    '4000::1',
    'x',
    '',
    '1.2.3',
  ])('refuses %s', (address) => expect(isPublicAddress(address)).toBe(false));

  it.each([
    '1.1.1.1',
    '9.255.255.255',
    '11.0.0.0',
    '172.15.0.1',
    '172.32.0.1',
    '::ffff:8.8.8.8',
    '2606:4700::1111',
    '2a00:1450::1',
  ])('takes %s', (address) => expect(isPublicAddress(address)).toBe(true));
});

describe('SafeFetcher', () => {
  let server: Server;
  let origin: string;
  let trusting: SafeFetcher;
  const strict = new SafeFetcher();
  let reached = 0;

  beforeAll(async () => {
    server = createServer((incoming, answer) => {
      reached++;
      const path = incoming.url ?? '/';
      if (path === '/file') answer.writeHead(200, { 'content-type': 'image/png; x=1' }).end('bytes');
      else if (path === '/to-file') answer.writeHead(302, { location: '/file' }).end();
      else if (path === '/loop') answer.writeHead(302, { location: '/loop' }).end();
      else if (path === '/to-metadata')
        answer.writeHead(302, { location: 'http://169.254.169.254/latest/meta-data' }).end();
      else if (path === '/to-localhost') answer.writeHead(307, { location: `http://localhost:1/` }).end();
      else if (path === '/to-script') answer.writeHead(302, { location: 'file:///etc/passwd' }).end();
      else if (path === '/large') answer.writeHead(200, { 'content-length': '5000' }).end(Buffer.alloc(5_000));
      else if (path === '/endless') {
        const more = (): void => void (answer.destroyed || answer.write(Buffer.alloc(400), () => setImmediate(more)));
        more();
      } else if (path === '/never') answer.write('a');
      else if (path === '/gzip') answer.writeHead(200, { 'content-encoding': 'gzip' }).end('x');
      else answer.writeHead(Number(path.slice(1)) || 404).end();
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    origin = `http://127.0.0.1:${port}`;
    trusting = new SafeFetcher({ allowHosts: [`127.0.0.1:${port}`] });
  });
  afterAll(async () => {
    await Promise.all([strict.close(), trusting.close()]);
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });

  it('fetches from a host that is named as allowed, through redirects', async () => {
    const file = await trusting.fetch(`${origin}/to-file`, LIMITS);
    expect(file).toMatchObject({ contentType: 'image/png', url: `${origin}/file` });
    expect(file.bytes.toString()).toBe('bytes');
  });

  it.each([
    (port: string) => `http://127.0.0.1:${port}/file`,
    (port: string) => `http://localhost:${port}/file`,
    (port: string) => `http://2130706433:${port}/file`,
    (port: string) => `http://0x7f.1:${port}/file`,
    (port: string) => `http://017700000001:${port}/file`,
    (port: string) => `http://127.1:${port}/file`,
    (port: string) => `http://0:${port}/file`,
    (port: string) => `http://[::1]:${port}/file`,
    (port: string) => `http://[::ffff:127.0.0.1]:${port}/file`,
    (port: string) => `http://[::ffff:7f00:1]:${port}/file`,
    (port: string) => `http://①②⑦.⓪.⓪.①:${port}/file`,
    () => 'http://169.254.169.254/latest/meta-data/',
    () => 'http://10.0.0.1/',
    () => 'http://[fd00::1]/',
  ])('never connects to a local address, however it is written (%#)', async (make) => {
    const before = reached;
    const error = await failure(strict.fetch(make(new URL(origin).port), LIMITS));
    expect(error).toMatchObject({ code: 'fetch.address_refused', retry: false, field: 'url' });
    expect(reached).toBe(before);
  });

  it('checks what DNS answers, all of it, where the connection is made', async () => {
    const { port } = new URL(origin);
    const rebinding = new SafeFetcher({
      lookup: async (hostname) =>
        hostname === 'mixed.example'
          ? [
              { address: '93.184.216.34', family: 4 },
              { address: '127.0.0.1', family: 4 },
            ]
          : [
              {
                address: hostname === 'v6.example' ? '::ffff:127.0.0.1' : '127.0.0.1',
                family: hostname === 'v6.example' ? 6 : 4,
              },
            ],
    });
    const before = reached;
    for (const host of ['inside.example', 'mixed.example', 'v6.example']) {
      const error = await failure(rebinding.fetch(`http://${host}:${port}/file`, LIMITS));
      expect([host, error.code]).toEqual([host, 'fetch.address_refused']);
    }
    expect(reached).toBe(before);
    await rebinding.close();
  });

  it('checks each redirect anew', async () => {
    expect(await failure(trusting.fetch(`${origin}/to-metadata`, LIMITS))).toMatchObject({
      code: 'fetch.address_refused',
    });
    expect(await failure(trusting.fetch(`${origin}/to-localhost`, LIMITS))).toMatchObject({
      code: 'fetch.address_refused',
    });
    expect(await failure(trusting.fetch(`${origin}/to-script`, LIMITS))).toMatchObject({ code: 'fetch.url_refused' });
    expect(await failure(trusting.fetch(`${origin}/loop`, LIMITS))).toMatchObject({ code: 'fetch.too_many_redirects' });
  });

  it.each([
    'ftp://example.com/a',
    'file:///etc/passwd',
    'gopher://x',
    'data:text/plain,a',
    'no url',
    '',
    'http://user:pass@example.com/',
    'http://example.com/'.padEnd(4_001, 'a'),
  ])('refuses the URL %#', async (url) => {
    expect(await failure(strict.fetch(url, LIMITS))).toMatchObject({ code: 'fetch.url_refused', retry: false });
  });

  it('stops at the size limit, declared or not, and takes no compressed body', async () => {
    expect(await failure(trusting.fetch(`${origin}/large`, LIMITS))).toMatchObject({
      code: 'fetch.too_large',
      retry: false,
    });
    expect(await failure(trusting.fetch(`${origin}/endless`, LIMITS))).toMatchObject({ code: 'fetch.too_large' });
    expect(await failure(trusting.fetch(`${origin}/gzip`, LIMITS))).toMatchObject({ code: 'fetch.encoding_refused' });
  });

  it('stops at the time limit, and when it is told to', async () => {
    const late = await failure(trusting.fetch(`${origin}/never`, { ...LIMITS, timeoutMs: 60 }));
    expect(late).toMatchObject({ code: 'fetch.timeout', retry: true });
    const stopped = await failure(trusting.fetch(`${origin}/never`, { ...LIMITS, signal: AbortSignal.abort() }));
    expect(stopped.retry).toBe(true);
  });

  it.each([
    [404, false],
    [403, false],
    [410, false],
    [408, true],
    [429, true],
    [500, true],
    [503, true],
  ])('answers %i as final or passing', async (status, retry) => {
    expect(await failure(trusting.fetch(`${origin}/${status}`, LIMITS))).toMatchObject({ code: 'fetch.status', retry });
  });

  it('tells a name that is unknown and a port that is closed as passing', async () => {
    const nameless = new SafeFetcher({ lookup: async () => Promise.reject(new Error('ENOTFOUND')) });
    expect(await failure(nameless.fetch('http://nowhere.example/', LIMITS))).toMatchObject({
      code: 'fetch.unreachable',
      retry: true,
    });
    await nameless.close();
    const closed = new SafeFetcher({ allowHosts: ['127.0.0.1:1'] });
    expect(await failure(closed.fetch('http://127.0.0.1:1/', LIMITS))).toMatchObject({ code: 'fetch.unreachable' });
    await closed.close();
  });
});

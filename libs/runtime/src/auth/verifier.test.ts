import { createServer } from 'node:http';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { verifyKey } from '@tuneloop/contracts/gateway/internal';
import { exportJWK, generateKeyPair, SignJWT, UnsecuredJWT } from 'jose';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AppError } from '../errors.ts';
import { newId } from '../ids.ts';
import { apiKeyId, keyedHash, keyedHashMatches, newApiKey } from './apiKeys.ts';
import { hasScope, requireScope } from './auth.ts';
import type { Auth } from './auth.ts';
import { buildJwks } from './jwks.ts';
import { deriveBytes, deriveSigningKey } from './keys.ts';
import { signGatewayToken, signServiceToken, TOKEN_AUDIENCE } from './tokens.ts';
import { createAuthenticator } from './verifier.ts';

const SECRET = 'the master secret of this test, long enough';
const OTHER_SECRET = 'some other master secret, long enough too';
const SUPABASE_SECRET = 'a supabase secret that is at least 32 bytes';
const SUPABASE_URL = 'https://abc.supabase.co';
const PROJECT = newId();
const USER: Auth = {
  projectId: PROJECT,
  subject: 'u1',
  actor: 'user:u1',
  scopes: ['read', 'write'],
  role: 'engineer',
  kind: 'user',
};

const gatewayKey = deriveSigningKey(SECRET, 'gateway');
const serviceKey = deriveSigningKey(SECRET, 'service');
const auth = createAuthenticator({
  service: 'rewards',
  secret: SECRET,
  supabase: { url: SUPABASE_URL, jwtSecret: SUPABASE_SECRET },
});

const bearer = (token: string) => auth.authenticate({ authorization: `Bearer ${token}` });
async function refusal(promise: Promise<unknown>): Promise<AppError> {
  const error: unknown = await promise.then(
    () => new Error('it was accepted'),
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof AppError)) throw error;
  return error;
}

/** A token like the gateway's with parts of it replaced. */
function forge(changes: Record<string, unknown>, header: Record<string, unknown> = {}) {
  const now = Math.floor(Date.now() / 1000);
  return new SignJWT({
    iss: 'tuneloop-gateway',
    aud: TOKEN_AUDIENCE,
    sub: 'u1',
    iat: now,
    exp: now + 60,
    project: PROJECT,
    actor: 'user:u1',
    scopes: ['read'],
    role: 'viewer',
    kind: 'user',
    ...changes,
  }).setProtectedHeader({ alg: 'EdDSA', kid: gatewayKey.kid, ...header });
}

describe('our own tokens', () => {
  it('carry the caller from the gateway to a service', async () => {
    expect(await bearer(await signGatewayToken(gatewayKey, USER))).toEqual(USER);
    const service = await bearer(
      await signServiceToken(serviceKey, { service: 'trainer', projectId: PROJECT, actor: 'user:u7' }),
    );
    expect(service).toEqual({
      projectId: PROJECT,
      subject: 'trainer',
      actor: 'user:u7',
      scopes: ['service'],
      role: '',
      kind: 'service',
    });
  });

  it('accept the unchanged forgery base, so that the refusals below are for the change alone', async () => {
    expect(await bearer(await forge({}).sign(gatewayKey.privateKey))).toMatchObject({ subject: 'u1' });
  });

  it.each([
    ['another issuer', { iss: 'someone' }],
    ['another audience', { aud: 'other' }],
    ['no audience', { aud: undefined }],
    ['no expiry', { exp: undefined }],
    ['no subject', { sub: undefined }],
    ['no project', { project: undefined }],
    ['a project that is no uuid', { project: 'p1' }],
    ['not valid yet', { nbf: Math.floor(Date.now() / 1000) + 600 }],
    ['the service kind from the gateway', { kind: 'service', scopes: ['service'] }],
    ['the service issuer with the gateway key', { iss: 'tuneloop-service', kind: 'service' }],
  ])('refuse %s', async (_name, change) => {
    const error = await refusal(bearer(await forge(change).sign(gatewayKey.privateKey)));
    expect([error.status, error.code]).toEqual([401, 'auth.token_invalid']);
  });

  it('refuse an expired one by name', async () => {
    const past = new Date(Date.now() - 600_000);
    const error = await refusal(bearer(await signGatewayToken(gatewayKey, USER, { now: past })));
    expect([error.status, error.code]).toEqual([401, 'auth.token_expired']);
    // Signed by the right key but made to live longer than ours do: too old all the same.
    const seconds = Math.floor(Date.now() / 1000);
    const old = await forge({ iat: seconds - 400, exp: seconds + 4_000 }).sign(gatewayKey.privateKey);
    expect((await refusal(bearer(old))).status).toBe(401);
  });

  it('hold for no longer than they live, however often they were shown', async () => {
    let clock = Date.now();
    const service = createAuthenticator({ service: 'rewards', secret: SECRET, now: () => new Date(clock) });
    const authorization = `Bearer ${await signGatewayToken(gatewayKey, USER, { ttlSeconds: 30 })}`;
    expect(await service.authenticate({ authorization })).toEqual(USER);
    clock += 20_000;
    expect(await service.authenticate({ authorization })).toEqual(USER);
    clock += 20_000;
    expect((await refusal(service.authenticate({ authorization }))).code).toBe('auth.token_expired');
  });

  it('vouch for themselves alone once they have been verified', async () => {
    const token = await signGatewayToken(gatewayKey, USER);
    expect(await bearer(token)).toEqual(USER);
    const [header, payload, signature] = token.split('.');
    const more = Buffer.from(payload!, 'base64url').toString().replace('"engineer"', '"owner"');
    expect((await refusal(bearer(`${token.slice(0, -4)}AAAA`))).status).toBe(401);
    const altered = [header, Buffer.from(more).toString('base64url'), signature].join('.');
    expect((await refusal(bearer(altered))).status).toBe(401);
    expect(await bearer(token)).toEqual(USER);
  });

  it('refuse `none`, HMAC with the public key, another key, and a changed payload', async () => {
    const none = new UnsecuredJWT({ project: PROJECT, scopes: ['admin'], kind: 'user', actor: 'x' })
      .setIssuer('tuneloop-gateway')
      .setAudience(TOKEN_AUDIENCE)
      .setSubject('x')
      .setIssuedAt()
      .setExpirationTime('1m')
      .encode();
    expect((await refusal(bearer(none))).status).toBe(401);
    const publicBytes = Buffer.from(gatewayKey.publicJwk.x, 'base64url');
    expect((await refusal(bearer(await forge({}, { alg: 'HS256' }).sign(publicBytes)))).status).toBe(401);
    const pem = Buffer.from(gatewayKey.publicKey.export({ format: 'pem', type: 'spki' }));
    expect((await refusal(bearer(await forge({}, { alg: 'HS256' }).sign(pem)))).status).toBe(401);
    const foreign = deriveSigningKey(OTHER_SECRET, 'gateway');
    expect((await refusal(bearer(await forge({}).sign(foreign.privateKey)))).status).toBe(401);
    expect((await refusal(bearer(await forge({}, { kid: foreign.kid }).sign(foreign.privateKey)))).status).toBe(401);
    const [header, payload, signature] = (await signGatewayToken(gatewayKey, USER)).split('.');
    const changed = Buffer.from(
      JSON.stringify({ ...JSON.parse(Buffer.from(payload!, 'base64url').toString()), scopes: ['admin'] }),
    ).toString('base64url');
    expect((await refusal(bearer(`${header}.${changed}.${signature}`))).status).toBe(401);
  });

  it('cannot be made longer than five minutes or for the wrong issuer', async () => {
    await expect(signGatewayToken(gatewayKey, USER, { ttlSeconds: 301 })).rejects.toThrow(RangeError);
    await expect(signGatewayToken(serviceKey, USER)).rejects.toThrow('does not sign');
    await expect(signGatewayToken(gatewayKey, { ...USER, kind: 'service' })).rejects.toThrow('no gateway token');
  });

  it('never give the service scope through the gateway', async () => {
    const token = await signGatewayToken(gatewayKey, { ...USER, scopes: ['read', 'service'] });
    expect((await bearer(token)).scopes).toEqual(['read']);
    const forged = await forge({ scopes: ['read', 'service', 'from_the_future'] }).sign(gatewayKey.privateKey);
    expect((await bearer(forged)).scopes).toEqual(['read']);
  });
});

describe('headers', () => {
  it('need credentials of the right form, and an Authorization that is there must hold', async () => {
    expect((await refusal(auth.authenticate({}))).code).toBe('auth.missing');
    expect((await refusal(auth.authenticate({ authorization: 'Basic abc' }))).code).toBe('auth.header_invalid');
    expect((await refusal(bearer('not-a-token'))).status).toBe(401);
    expect((await refusal(bearer('x'.repeat(9_000)))).code).toBe('auth.header_invalid');
    const good = await signGatewayToken(gatewayKey, USER);
    expect(await auth.authenticate({ apikey: good })).toEqual(USER);
    expect((await refusal(auth.authenticate({ authorization: 'Bearer nonsense', apikey: good }))).status).toBe(401);
    expect(await auth.authenticate({ authorization: `bearer  ${good} ` })).toEqual(USER);
  });
});

describe('keys', () => {
  it('are the same for the same secret and differ by label and secret', () => {
    expect(deriveSigningKey(SECRET, 'gateway').publicJwk).toEqual(gatewayKey.publicJwk);
    const xs = [gatewayKey, serviceKey, deriveSigningKey(OTHER_SECRET, 'gateway')].map((key) => key.publicJwk.x);
    expect(new Set(xs).size).toBe(3);
    expect(() => deriveBytes('short', 'x')).toThrow('at least 32 bytes');
    expect(JSON.stringify(buildJwks([gatewayKey]))).not.toContain('"d"');
  });

  it('API keys have 256 bits, an id, and a keyed hash', () => {
    const { id, key } = newApiKey();
    expect(key).toMatch(/^tl_[A-Za-z0-9]{8}_[\w-]{43}$/);
    expect(apiKeyId(key)).toBe(id);
    expect(apiKeyId(`${key}x`)).toBeUndefined();
    const hash = keyedHash('pepper', key);
    expect(keyedHashMatches('pepper', key, hash)).toBe(true);
    expect(keyedHashMatches('other', key, hash)).toBe(false);
    expect(keyedHashMatches('pepper', key, hash.subarray(1))).toBe(false);
  });
});

describe('Supabase tokens', () => {
  const claims = { app_metadata: { project_id: PROJECT, role: 'reviewer' }, user_metadata: { project_id: newId() } };
  const sign = (
    payload: Record<string, unknown>,
    issuer = `${SUPABASE_URL}/auth/v1`,
    audience = 'authenticated',
    secret = SUPABASE_SECRET,
  ) =>
    new SignJWT(payload)
      .setProtectedHeader({ alg: 'HS256' })
      .setIssuer(issuer)
      .setAudience(audience)
      .setSubject('u5')
      .setIssuedAt()
      .setExpirationTime('10m')
      .sign(Buffer.from(secret));

  it('name project and role by claims that the user cannot edit', async () => {
    expect(await bearer(await sign(claims))).toEqual({
      projectId: PROJECT,
      subject: 'u5',
      actor: 'user:u5',
      scopes: ['read', 'feedback'],
      role: 'reviewer',
      kind: 'user',
    });
    expect((await refusal(bearer(await sign({ user_metadata: { project_id: PROJECT } })))).code).toBe(
      'auth.project_missing',
    );
    expect(() =>
      createAuthenticator({
        service: 'rewards',
        supabase: { url: SUPABASE_URL, jwtSecret: 'x', projectClaim: 'user_metadata.project_id' },
      }),
    ).toThrow('can be edited by the user');
  });

  it('are refused with another issuer, audience, secret or algorithm', async () => {
    expect((await refusal(bearer(await sign(claims, 'supabase')))).status).toBe(401);
    expect((await refusal(bearer(await sign(claims, `${SUPABASE_URL}/auth/v1`, 'anon')))).status).toBe(401);
    expect(
      (await refusal(bearer(await sign(claims, `${SUPABASE_URL}/auth/v1`, 'authenticated', OTHER_SECRET)))).status,
    ).toBe(401);
    const { privateKey } = await generateKeyPair('ES256');
    const es = await new SignJWT(claims)
      .setProtectedHeader({ alg: 'ES256' })
      .setIssuer(`${SUPABASE_URL}/auth/v1`)
      .setAudience('authenticated')
      .setSubject('u')
      .setExpirationTime('1m')
      .sign(privateKey);
    expect((await refusal(bearer(es))).status).toBe(401);
  });
});

describe('over HTTP', () => {
  let server: Server;
  let url: string;
  let asked: string[];
  let answer: { status: number; body: unknown };
  const pair = generateKeyPair('ES256', { extractable: true });

  beforeAll(async () => {
    const supabaseJwk = { ...(await exportJWK((await pair).publicKey)), kid: 'es-1', alg: 'ES256' };
    server = createServer((request, response) => {
      const send = (status: number, body: unknown) =>
        response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
      if (request.url === '/jwks') return send(200, buildJwks([gatewayKey, serviceKey]));
      if (request.url === '/supabase-jwks' || request.url === '/auth/v1/.well-known/jwks.json')
        return send(200, { keys: [supabaseJwk] });
      if (request.url !== verifyKey.path) return send(500, {});
      asked.push(request.headers.authorization ?? '');
      request.resume().on('end', () => send(answer.status, answer.body));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  afterAll(() => new Promise((resolve) => server.close(resolve)));

  it('verifies by the gateway key document, without its secret', async () => {
    const remote = createAuthenticator({ service: 'rewards', jwksUrl: `${url}/jwks` });
    expect(await remote.authenticate({ apikey: await signGatewayToken(gatewayKey, USER) })).toEqual(USER);
    const foreign = await signGatewayToken(deriveSigningKey(OTHER_SECRET, 'gateway'), USER);
    expect((await refusal(remote.authenticate({ apikey: foreign }))).status).toBe(401);
    const down = createAuthenticator({ service: 'rewards', jwksUrl: `${url}/broken` });
    const error = await refusal(down.authenticate({ apikey: await signGatewayToken(gatewayKey, USER) }));
    expect([error.status, error.retry]).toEqual([503, true]);
  });

  it('verifies Supabase by JWKS and never takes HMAC there', async () => {
    const remote = createAuthenticator({
      service: 'rewards',
      supabase: { url: SUPABASE_URL, jwksUrl: `${url}/supabase-jwks` },
    });
    const build = (alg: string) =>
      new SignJWT({ app_metadata: { project_id: PROJECT } })
        .setProtectedHeader({ alg, kid: 'es-1' })
        .setIssuer(`${SUPABASE_URL}/auth/v1`)
        .setAudience('authenticated')
        .setSubject('u')
        .setIssuedAt()
        .setExpirationTime('1m');
    expect(await remote.authenticate({ apikey: await build('ES256').sign((await pair).privateKey) })).toMatchObject({
      projectId: PROJECT,
      role: 'viewer',
      scopes: ['read'],
    });
    expect(
      (await refusal(remote.authenticate({ apikey: await build('HS256').sign(Buffer.from(SUPABASE_SECRET)) }))).status,
    ).toBe(401);
    // Without a secret or a key document named, the project's own document is asked.
    const own = createAuthenticator({ service: 'rewards', supabase: { url } });
    const token = await build('ES256')
      .setIssuer(`${url}/auth/v1`)
      .sign((await pair).privateKey);
    expect(await own.authenticate({ apikey: token })).toMatchObject({ projectId: PROJECT });
  });

  it('asks the gateway for an API key once, caches for seconds, and keeps refusals apart from failures', async () => {
    let now = new Date();
    const remote = createAuthenticator({ service: 'rewards', secret: SECRET, gatewayUrl: url, now: () => now });
    const { id, key } = newApiKey();
    asked = [];
    answer = {
      status: 200,
      body: {
        valid: true,
        project_id: PROJECT,
        key_id: id,
        scopes: ['read', 'feedback', 'service'],
        role: 'engineer',
        expires_at: null,
      },
    };
    const [first, second] = await Promise.all([
      remote.authenticate({ apikey: key }),
      remote.authenticate({ authorization: `Bearer ${key}`, apikey: key }),
    ]);
    expect(first).toEqual({
      projectId: PROJECT,
      subject: id,
      actor: `key:${id}`,
      scopes: ['read', 'feedback'],
      role: 'engineer',
      kind: 'api_key',
    });
    expect(second).toEqual(first);
    expect(asked).toHaveLength(1);
    expect(await auth.authenticate({ authorization: asked[0] })).toMatchObject({ kind: 'service', subject: 'rewards' });

    answer = { status: 200, body: { valid: false } };
    now = new Date(now.getTime() + 11_000);
    expect((await refusal(remote.authenticate({ apikey: key }))).status).toBe(401);
    expect(asked).toHaveLength(2);

    answer = { status: 500, body: {} };
    const down = await refusal(remote.authenticate({ apikey: newApiKey().key }));
    expect([down.status, down.retry]).toEqual([503, true]);
    expect((await refusal(remote.authenticate({ apikey: 'tl_short' }))).code).toBe('auth.key_invalid');
    expect(asked).toHaveLength(3);
  });

  it('lets no key outlive its expiry in the cache', async () => {
    let now = new Date();
    const remote = createAuthenticator({ service: 'rewards', secret: SECRET, gatewayUrl: url, now: () => now });
    const { id, key } = newApiKey();
    answer = {
      status: 200,
      body: {
        valid: true,
        project_id: PROJECT,
        key_id: id,
        scopes: ['read'],
        expires_at: new Date(now.getTime() + 1_000).toISOString(),
      },
    };
    await remote.authenticate({ apikey: key });
    now = new Date(now.getTime() + 2_000);
    expect((await refusal(remote.authenticate({ apikey: key }))).status).toBe(401);
  });
});

describe('scopes', () => {
  it('admin covers all but service, service covers all, others stand for themselves', () => {
    const withScopes = (scopes: Auth['scopes'], kind: Auth['kind'] = 'user'): Auth => ({ ...USER, scopes, kind });
    expect(hasScope(withScopes(['admin']), 'train')).toBe(true);
    expect(hasScope(withScopes(['admin']), 'service')).toBe(false);
    expect(hasScope(withScopes(['service']), 'service')).toBe(false);
    expect(hasScope(withScopes(['service'], 'service'), 'service')).toBe(true);
    expect(hasScope(withScopes(['service'], 'service'), 'train')).toBe(true);
    expect(hasScope(withScopes(['write']), 'read')).toBe(false);
    expect(() => requireScope(withScopes(['read']), 'train')).toThrow('"train"');
  });
});

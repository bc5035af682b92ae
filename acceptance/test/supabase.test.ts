import { createHash, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createClient } from '@supabase/supabase-js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Door } from '../src/door.ts';
import { file, form, jpeg } from '../src/pictures.ts';
import { runCli, type Stack, startStack } from '../src/stack.ts';
import { makeSigning, type Person, type Signing, SupabaseServer } from '../src/supabaseServer.ts';

const SAMPLE_PROJECT = '01990000-0000-7000-8000-000000000001';
const SECRET = 'a-shared-secret-of-some-older-supabase-project';

interface Me {
  project_id: string;
  actor: string;
  role: string;
  scopes: string[];
}

const person = (name: string, appMetadata: Record<string, unknown>, userMetadata = {}): Person => ({
  ...{ id: randomUUID(), email: `${name}@example.org`, password: `${name}'s password` },
  ...{ appMetadata, userMetadata },
});

/** One stack for each way of signing; the second keeps its blobs in Supabase Storage as well. */
describe.each([
  ['a shared secret (HS256)', SECRET],
  ['a key set (ES256), with blobs in its storage', undefined],
])('sign-in through %s', (_name, secret) => {
  const otherProject = { id: '' };
  const ann = person('ann', { project_id: SAMPLE_PROJECT, role: 'engineer' });
  const rob = person('rob', { project_id: SAMPLE_PROJECT, role: 'reviewer' });
  const vic = person('vic', { project_id: SAMPLE_PROJECT });
  const eve = person('eve', {}, { project_id: SAMPLE_PROJECT, role: 'owner' });
  let signing: Signing;
  let supabase: SupabaseServer;
  let stack: Stack;
  let door: Door;
  let otherKey: string;

  beforeAll(async () => {
    signing = await makeSigning(secret);
    supabase = await new SupabaseServer([ann, rob, vic, eve], signing).start();
    const storage = {
      ...{ BLOB_STORE: 'supabase', SUPABASE_SERVICE_ROLE_KEY: supabase.serviceRoleKey },
      SUPABASE_BUCKET: supabase.bucket,
    };
    stack = await startStack({
      flags: ['--empty'],
      env: { SUPABASE_URL: supabase.url, ...(secret === undefined ? storage : { SUPABASE_JWT_SECRET: secret }) },
    });
    door = new Door(stack.url, stack.apiKey);
    const made = await runCli(['bootstrap', '--slug', 'other', '--url', stack.url], {
      env: { TUNELOOP_SECRET: readFileSync(join(stack.dataDir, 'secret'), 'utf8').trim() },
      timeoutMs: 30_000,
    });
    expect(made.status, made.output).toBe(0);
    otherKey = /tl_\S+/.exec(made.output)![0];
    otherProject.id = (await door.get<Me>('/api/v1/me', { key: otherKey })).body.project_id;
  });
  afterAll(async () => {
    await stack?.stop();
    supabase?.stop();
  });

  async function signIn(who: Person): Promise<string> {
    const client = createClient(supabase.url, 'anon-key', { auth: { persistSession: false, autoRefreshToken: false } });
    const { data, error } = await client.auth.signInWithPassword({ email: who.email, password: who.password });
    if (error) throw error;
    return data.session.access_token;
  }

  it('gives a session that is taken for the project and the role of its claims', async () => {
    const key = await signIn(ann);
    const me = await door.get<Me>('/api/v1/me', { key });
    expect(me.body).toMatchObject({ project_id: SAMPLE_PROJECT, actor: `user:${ann.id}`, role: 'engineer' });
    const made = await door.post<{ response_id: string }>(
      '/api/v1/responses',
      { prompt: 'p', response_text: 'r' },
      { key },
    );
    expect(made.status, made.text).toBe(201);
    const rated = await door.post<{ user_id: string }>(
      '/api/v1/feedback',
      { kind: 'thumbs', value: 'up', response_id: made.body.response_id },
      { key: await signIn(rob) },
    );
    expect(rated.status, rated.text).toBe(201);
    expect(rated.body.user_id).toBe(rob.id);
    const forged = await door.post(
      '/api/v1/feedback',
      { kind: 'thumbs', value: 'up', response_id: made.body.response_id, user_id: ann.id },
      { key: await signIn(rob) },
    );
    expect(forged.status).toBe(403);
  });

  it('keeps projects apart by their claim', async () => {
    const key = await signIn(ann);
    const mine = await door.post<{ response_id: string }>(
      '/api/v1/responses',
      { prompt: 'p', response_text: 'r' },
      { key },
    );
    const theirs = await supabase.token(ann, { app_metadata: { project_id: otherProject.id, role: 'owner' } });
    expect((await door.get<Me>('/api/v1/me', { key: theirs })).body).toMatchObject({ project_id: otherProject.id });
    const path = `/api/v1/responses/${mine.body.response_id}`;
    expect((await door.get(path, { key })).status).toBe(200);
    expect((await door.get(path, { key: theirs })).status).toBe(404);
    expect((await door.get(path, { key: otherKey })).status).toBe(404);
    const list = await door.get<{ data: unknown[] }>('/api/v1/responses', { key: theirs });
    expect(list.body.data).toEqual([]);
  });

  it('gives a role what it may, and no role the least', async () => {
    const body = { prompt: 'p', response_text: 'r' };
    const refused = await door.post<{ detail: string }>('/api/v1/responses', body, { key: await signIn(vic) });
    expect(refused.status).toBe(403);
    expect(refused.body.detail).toContain('write');
    expect((await door.get('/api/v1/responses', { key: await signIn(vic) })).status).toBe(200);
    expect((await door.post('/api/v1/api-keys', { name: 'x' }, { key: await signIn(ann) })).status).toBe(403);
  });

  it('is refused without a project that an administrator gave', async () => {
    const refused = await door.get<{ detail: string }>('/api/v1/me', { key: await signIn(eve) });
    expect(refused.status).toBe(401);
    expect(refused.body.detail).toContain('app_metadata.project_id');
    const odd = await supabase.token(ann, { app_metadata: { project_id: "' OR 1=1" } });
    expect((await door.get('/api/v1/me', { key: odd })).status).toBe(401);
  });

  it.each<[string, () => Promise<string>]>([
    ['expired', () => supabase.token(ann, {}, { expiresAt: new Date(Date.now() - 60_000) })],
    ['signed with another secret', async () => supabase.token(ann, {}, { signing: await makeSigning('x'.repeat(40)) })],
    ['signed with another key of the same name', async () => supabase.token(ann, {}, { signing: await makeSigning() })],
    [
      'signed with the public key as a secret',
      async () => {
        const key = new TextEncoder().encode(JSON.stringify(signing.jwk ?? 'none'));
        return supabase.token(ann, {}, { signing: { algorithm: 'HS256', key } });
      },
    ],
    [
      'without signature',
      async () => {
        const [, claims] = (await supabase.token(ann)).split('.');
        return `${Buffer.from('{"alg":"none","typ":"JWT"}').toString('base64url')}.${claims}.`;
      },
    ],
    [
      'changed afterwards',
      async () => {
        const [head, claims, signature] = (await supabase.token(vic)).split('.');
        const changed = { ...(JSON.parse(Buffer.from(claims!, 'base64url').toString()) as object), sub: ann.id };
        return `${head}.${Buffer.from(JSON.stringify(changed)).toString('base64url')}.${signature}`;
      },
    ],
    ['of another Supabase project', () => supabase.token(ann, { iss: 'https://evil.example/auth/v1' })],
    ['the anon key', () => supabase.token(ann, { aud: 'anon', role: 'anon' })],
    ['of nobody', () => supabase.token(ann, { sub: undefined })],
    ['that claims to be our own', () => supabase.token(ann, { iss: 'tuneloop' })],
  ])('refuses a token %s, at every surface in its own shape', async (_what, make) => {
    const key = await make();
    expect(await door.get('/api/v1/responses', { key })).toMatchObject({ status: 401, body: { status: 401 } });
    expect(await door.get('/v1/models', { key })).toMatchObject({
      status: 401,
      body: { error: { code: 'invalid_api_key' } },
    });
    expect(await door.get('/functions/v1/rft-responses', { key })).toMatchObject({
      status: 401,
      body: { success: false },
    });
    expect((await door.get('/mcp', { key })).status).toBe(401);
  });

  it('is what an edge functions client sends: the anon key beside the session', async () => {
    const client = createClient(stack.url, 'anon-key', {
      auth: { persistSession: false, autoRefreshToken: false },
      global: { headers: { Authorization: `Bearer ${await signIn(ann)}` } },
    });
    const body = form({ file: file(await jpeg(9), 'a.jpg'), category: 'fashion' });
    const upload = await client.functions.invoke<{ success: boolean; url: string; path: string }>('upload', { body });
    expect(upload.error).toBeNull();
    expect(upload.data).toMatchObject({ success: true, path: expect.stringMatching(/^fashion\//) });
    const shown = await fetch(upload.data!.url);
    expect([shown.status, shown.headers.get('content-type')]).toEqual([200, 'image/jpeg']);
    const response = await client.functions.invoke<{ data: { id: string } }>('rft-responses', {
      body: { user_id: 'u', prompt: 'p', response_text: 'r' },
    });
    expect(response.data?.data.id).toMatch(/^[0-9a-f-]{36}$/);
    const broken = await client.functions.invoke('rft-rewards', { body: { response_id: 'x' } });
    expect((broken.error as { context: Response }).context.status).toBe(400);
    // Stored where it was told: in the bucket under the picture's own hash, or nowhere near it.
    const bytes = Buffer.from(await (await fetch(upload.data!.url)).arrayBuffer());
    const hash = createHash('sha256').update(bytes).digest('hex');
    const key = `ingest/${SAMPLE_PROJECT}/${hash.slice(0, 2)}/${hash}`;
    expect(supabase.objects.get(key)?.bytes.equals(bytes) ?? false).toBe(secret === undefined);
  });
});

import { connect } from 'node:net';
import { once } from 'node:events';
import { imageRejected, imageUploaded } from '@tuneloop/contracts/ingest/events';
import { eventSubject } from '@tuneloop/contracts/event';
import { deleteImage } from '@tuneloop/contracts/ingest/http';
import { newId } from '@tuneloop/runtime/ids';
import { eventually } from '@tuneloop/testkit/eventually';
import { startTestService, type TestSystem } from '@tuneloop/testkit/service';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ingestService } from '../src/service.ts';
import { drawing, photoWithPlace, pixelBomb } from './pictures.ts';
import { encodeForm, type FormFields, type FormFile, postForm, remains } from './uploads.ts';

interface Uploaded {
  success: true;
  url: string;
  path: string;
  imageId: string;
  dbStatus: string;
  size: number;
  contentType: string;
}
interface Refused {
  success: false;
  error: string;
}

const PATH = '/functions/v1/upload';
let now = new Date('2026-03-01T12:00:00Z');
let system: TestSystem;
let projectId: string;
let png: Buffer;
beforeAll(async () => {
  system = await startTestService(ingestService, { clock: () => now });
  projectId = await system.project();
  png = await drawing(1).png().toBuffer();
});
afterAll(() => system.stop());

function upload<T = Uploaded>(
  fields: FormFields,
  file: FormFile | null,
  as: { projectId?: string; headers?: Record<string, string> } = {},
) {
  return postForm<T>(system, PATH, fields, file, { projectId, ...as });
}

async function outbox(project: string): Promise<{ subject: string; body: Record<string, unknown> }[]> {
  return system.sql('SELECT subject, body FROM ingest.outbox WHERE project_id = $1 ORDER BY seq', [project]);
}

describe('POST /functions/v1/upload', () => {
  it('stores the picture, answers in the edge function’s shape, and tells of it', async () => {
    const own = await system.project();
    const answer = await upload(
      { fileName: 'mug.png', user_id: 'alice', category: 'kitchen', metadata: '{"page":"home"}' },
      { bytes: png, name: 'other.png' },
      { projectId: own },
    );
    expect(answer.status).toBe(200);
    expect(answer.body).toEqual({
      success: true,
      url: expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+\/api\/v1\/images\/[0-9a-f-]{36}\/view\?token=/),
      path: `kitchen/${now.getTime()}-mug.png`,
      imageId: expect.stringMatching(/^[0-9a-f-]{36}$/),
      dbStatus: 'success',
      size: expect.any(Number),
      contentType: 'image/png',
    });
    const events = await outbox(own);
    expect(events.map((event) => event.subject)).toEqual([eventSubject(imageUploaded, own)]);
    expect(imageUploaded.schema.parse(events[0]?.body)).toMatchObject({
      image_id: answer.body.imageId,
      user_id: 'alice',
      category: 'kitchen',
      metadata: { page: 'home' },
      facts: { width: 320, height: 240, words: { orientation: 'landscape', size: 'small' } },
      duplicate_of: null,
    });
    expect(await remains(system, own)).toEqual({ images: 1, sweeps: 0, blobs: 1 });
  });

  it('needs nothing but the file', async () => {
    const answer = await upload({}, { bytes: png, name: 'plain.png' });
    expect(answer.body.path).toMatch(/^general\/\d+-plain\.png$/);
    const [row] = await system.sql<{ user_id: string }>('SELECT user_id FROM ingest.images WHERE id = $1', [
      answer.body.imageId,
    ]);
    expect(row?.user_id).toBe('anonymous');
  });

  it('answers with a url that shows the picture without credentials until it ends', async () => {
    const answer = await upload({}, { bytes: png });
    const shown = await fetch(answer.body.url);
    expect(shown.status).toBe(200);
    expect(shown.headers.get('content-type')).toBe('image/png');
    expect(shown.headers.get('x-content-type-options')).toBe('nosniff');
    const bytes = Buffer.from(await shown.arrayBuffer());
    expect(bytes.length).toBe(answer.body.size);
    expect(await sharp(bytes).metadata()).toMatchObject({ width: 320, height: 240, format: 'png' });
    // Not the last character: some of its bits are no part of the token.
    const other = answer.body.url.replace(/.(?=....$)/, (one) => (one === 'A' ? 'B' : 'A'));
    expect((await fetch(other)).status).toBe(403);
    const elsewhere = (await upload({}, { bytes: png })).body.imageId;
    expect((await fetch(answer.body.url.replace(answer.body.imageId, elsewhere))).status).toBe(403);
    now = new Date(now.getTime() + 8 * 86_400_000);
    expect((await fetch(answer.body.url)).status).toBe(403);
  });

  it('names the url after the host that the caller used', async () => {
    const answer = await upload(
      {},
      { bytes: png },
      {
        headers: { 'x-forwarded-host': 'pictures.example.com', 'x-forwarded-proto': 'https' },
      },
    );
    expect(answer.body.url).toMatch(/^https:\/\/pictures\.example\.com\/api\/v1\/images\//);
    const odd = await upload({}, { bytes: png }, { headers: { 'x-forwarded-host': 'evil.example/<script>' } });
    expect(odd.body.url).toMatch(/^http:\/\/127\.0\.0\.1:/);
  });

  it.each(['jpeg', 'png', 'webp', 'gif', 'avif'] as const)(
    'takes %s by its bytes, whatever it is called',
    async (format) => {
      const bytes = await drawing(2).toFormat(format).toBuffer();
      const answer = await upload({}, { bytes, name: 'data.txt', type: 'text/plain' });
      expect(answer.status).toBe(200);
      expect(answer.body.contentType).toBe(`image/${format}`);
    },
  );

  it('keeps an animation', async () => {
    const frames = await Promise.all([3, 4, 5].map((seed) => drawing(seed, 60, 40).png().toBuffer()));
    const bytes = await sharp(frames, { join: { animated: true } })
      .gif()
      .toBuffer();
    const answer = await upload({}, { bytes });
    const shown = Buffer.from(await (await fetch(answer.body.url)).arrayBuffer());
    expect((await sharp(shown).metadata()).pages).toBe(3);
    const [row] = await system.sql<{ facts: { height: number } }>('SELECT facts FROM ingest.images WHERE id = $1', [
      answer.body.imageId,
    ]);
    expect(row?.facts.height).toBe(40);
  });

  it('turns a picture upright and stores nothing of its place and device', async () => {
    const bytes = await photoWithPlace(6);
    const before = await sharp(bytes).metadata();
    expect(before.exif?.includes('Secretcam')).toBe(true);
    expect(before.orientation).toBe(6);
    const answer = await upload({}, { bytes, name: 'photo.jpg' });
    const shown = Buffer.from(await (await fetch(answer.body.url)).arrayBuffer());
    const after = await sharp(shown).metadata();
    expect(after).toMatchObject({ width: 240, height: 320 });
    expect([after.exif, after.xmp, after.iptc, after.orientation]).toEqual([
      undefined,
      undefined,
      undefined,
      undefined,
    ]);
    expect(shown.includes('Secretcam')).toBe(false);
    const [row] = await system.sql<{ facts: { words: Record<string, string> } }>(
      'SELECT facts FROM ingest.images WHERE id = $1',
      [answer.body.imageId],
    );
    expect(row?.facts.words.orientation).toBe('portrait');
  });
});

describe('bad input', () => {
  const valid = (): FormFile => ({ bytes: png });
  const cases: [string, () => [FormFields, FormFile | null], number, string][] = [
    ['no file', () => [{}, null], 400, 'file'],
    ['a file under another name', () => [{}, { bytes: png, field: 'picture' }], 400, 'file'],
    ['a text instead of a file', () => [{ file: 'hello' }, null], 400, 'file'],
    ['an empty file', () => [{}, { bytes: Buffer.alloc(0) }], 400, 'file'],
    ['text called .png', () => [{}, { bytes: Buffer.from('just some words'), name: 'a.png' }], 415, 'file'],
    ['a PDF', () => [{}, { bytes: Buffer.from('%PDF-1.7\n%âãÏÓ\n1 0 obj\n') }], 415, 'file'],
    ['an SVG', () => [{}, { bytes: Buffer.from('<svg xmlns="http://www.w3.org/2000/svg"/>') }], 415, 'file'],
    ['a picture cut off', () => [{}, { bytes: png.subarray(0, Math.floor(png.length / 2)) }], 400, 'file'],
    ['a header without a picture', () => [{}, { bytes: png.subarray(0, 60) }], 400, 'file'],
    ['more than 10 MB', () => [{}, { bytes: Buffer.concat([png, Buffer.alloc(10 * 1024 * 1024)]) }], 413, 'file'],
    ['.. in the name', () => [{ fileName: '..png' }, valid()], 400, 'fileName'],
    ['/ in the name', () => [{ fileName: 'a/b.png' }, valid()], 400, 'fileName'],
    ['\\ in the name', () => [{ fileName: 'a\\b.png' }, valid()], 400, 'fileName'],
    ['a path in the file’s own name', () => [{}, { bytes: png, name: '../../etc/passwd.png' }], 400, 'fileName'],
    ['a line break in the name', () => [{ fileName: 'a\nb.png' }, valid()], 400, 'fileName'],
    ['a name of 201 characters', () => [{ fileName: 'a'.repeat(201) }, valid()], 400, 'fileName'],
    ['a NUL in a field', () => [{ user_id: 'a\0b' }, valid()], 400, 'user_id'],
    ['.. in the category', () => [{ category: '..' }, valid()], 400, 'category'],
    ['/ in the category', () => [{ category: 'a/b' }, valid()], 400, 'category'],
    ['a category of 101 characters', () => [{ category: 'c'.repeat(101) }, valid()], 400, 'category'],
    ['a user of 201 characters', () => [{ user_id: 'u'.repeat(201) }, valid()], 400, 'user_id'],
    ['metadata that is not JSON', () => [{ metadata: '{page' }, valid()], 400, 'metadata'],
    ['metadata that is a list', () => [{ metadata: '[1]' }, valid()], 400, 'metadata'],
    ['metadata that is a text', () => [{ metadata: '"a"' }, valid()], 400, 'metadata'],
    ['metadata with a NUL', () => [{ metadata: '{"a":"\\u0000"}' }, valid()], 400, 'metadata'],
    ['metadata with a prototype', () => [{ metadata: '{"__proto__":{"x":1}}' }, valid()], 400, 'metadata'],
    [
      'metadata nested 200 deep',
      () => [{ metadata: `{"a":${'['.repeat(200)}${']'.repeat(200)}}` }, valid()],
      400,
      'metadata',
    ],
  ];

  it.each(cases)('refuses %s, naming the field, and keeps nothing', async (_case, make, status, field) => {
    const own = await system.project();
    const [fields, file] = make();
    const answer = await upload<Refused>(fields, file, { projectId: own });
    expect(answer.body).toEqual({ success: false, error: expect.stringContaining(field) });
    expect(answer.status).toBe(status);
    expect(await remains(system, own)).toEqual({ images: 0, sweeps: 0, blobs: 0 });
  });

  it('refuses a bomb of pixels by its header', async () => {
    const answer = await upload<Refused>({}, { bytes: await pixelBomb() });
    expect(answer.status).toBe(400);
    expect(answer.body.error).toContain('million pixels');
  });

  it('tells of a refused picture, not of a refused form', async () => {
    const own = await system.project();
    await upload({ metadata: '[]' }, { bytes: png }, { projectId: own });
    await upload({}, { bytes: Buffer.from('words'), name: 'words.png' }, { projectId: own });
    const events = await outbox(own);
    expect(events.map((event) => event.subject)).toEqual([eventSubject(imageRejected, own)]);
    expect(events[0]?.body).toMatchObject({ source: 'words.png', code: 'ingest.picture.type_refused' });
  });

  it('refuses a body that is no form, or has no boundary', async () => {
    const post = async (headers: Record<string, string>, body: string) => {
      const answer = await fetch(new URL(PATH, system.url('ingest')), {
        method: 'POST',
        headers: { authorization: await system.authorization({ projectId }), ...headers },
        body,
      });
      return { status: answer.status, body: (await answer.json()) as Refused };
    };
    expect(await post({ 'content-type': 'application/json' }, '{}')).toMatchObject({
      status: 415,
      body: { success: false },
    });
    expect(await post({ 'content-type': 'multipart/form-data' }, 'x')).toMatchObject({
      status: 400,
      body: { success: false },
    });
    expect(await post({ 'content-type': 'multipart/form-data; boundary=b' }, 'no parts')).toMatchObject({
      status: 400,
      body: { success: false },
    });
    expect(
      await post(
        { 'content-type': 'multipart/form-data; boundary=b' },
        '--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\nhalf',
      ),
    ).toMatchObject({ status: 400, body: { success: false } });
  });

  it('wants credentials with the right to write', async () => {
    const { body, contentType } = encodeForm({}, { bytes: png });
    const post = async (headers: Record<string, string>) =>
      (
        await fetch(new URL(PATH, system.url('ingest')), {
          method: 'POST',
          headers: { 'content-type': contentType, ...headers },
          body,
        })
      ).status;
    expect(await post({})).toBe(401);
    expect(await post({ authorization: 'Bearer nonsense' })).toBe(401);
    expect(await post({ authorization: await system.authorization({ projectId, scopes: ['read'] }) })).toBe(403);
  });
});

describe('cut off and killed', () => {
  it('keeps nothing of an upload whose client goes away half-way', async () => {
    const own = await system.project();
    const { body, contentType } = encodeForm({}, { bytes: png });
    const { hostname, port } = new URL(system.url('ingest'));
    const socket = connect(Number(port), hostname);
    await once(socket, 'connect');
    const authorization = await system.authorization({ projectId: own });
    socket.write(
      `POST ${PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: ${authorization}\r\nContent-Type: ${contentType}\r\nContent-Length: ${body.length}\r\n\r\n`,
    );
    socket.write(body.subarray(0, body.length - 200));
    socket.resetAndDestroy();
    await once(socket, 'close');
    // A later upload is answered after the broken one has ended, one way or the other.
    expect((await upload({}, { bytes: png })).status).toBe(200);
    expect(await remains(system, own)).toEqual({ images: 0, sweeps: 0, blobs: 0 });
  });

  it.each(['ingest.after_blob_put', 'ingest.before_upload_commit'] as const)(
    'leaves no blob when it fails at %s',
    async (point) => {
      const own = await system.project();
      system.faults.arm(point, 'throw');
      const answer = await upload<Refused>({}, { bytes: png }, { projectId: own });
      expect(answer.status).toBe(500);
      expect(answer.body.success).toBe(false);
      await eventually(async () => expect(await remains(system, own)).toEqual({ images: 0, sweeps: 0, blobs: 0 }));
      expect(await outbox(own)).toEqual([]);
    },
  );

  it('sweeps what a killed process has left, and nothing that is in use', async () => {
    const own = await system.project();
    const kept = await upload({}, { bytes: png }, { projectId: own });
    const [{ blob_key: key } = { blob_key: '' }] = await system.sql<{ blob_key: string }>(
      'SELECT blob_key FROM ingest.images WHERE id = $1',
      [kept.body.imageId],
    );
    // What is there after a SIGKILL between the blob and the commit: the announcement and the blob.
    const store = system.services.get('ingest')!.ctx.blobs;
    const orphan = await store.put(own, Buffer.from('an orphan'));
    for (const blob of [orphan.key, key]) {
      await system.sql('INSERT INTO ingest.blob_sweeps (id, project_id, blob_key, due_at) VALUES ($1, $2, $3, $4)', [
        newId(),
        own,
        blob,
        new Date(now.getTime() - 1),
      ]);
    }
    // An erasure wakes the sweeper.
    const erased = await upload({}, { bytes: await drawing(8).png().toBuffer() }, { projectId: own });
    await system.call(deleteImage, { params: { id: erased.body.imageId } }, { projectId: own });
    await eventually(async () => expect(await remains(system, own)).toEqual({ images: 1, sweeps: 0, blobs: 1 }));
    expect(await store.exists(key)).toBe(true);
  });
});

describe('Idempotency-Key', () => {
  it('stores one picture for a repeated upload and gives the same answer', async () => {
    const own = await system.project();
    const as = { projectId: own, headers: { 'idempotency-key': newId() } };
    const first = await upload({ category: 'a' }, { bytes: png }, as);
    const second = await upload({ category: 'a' }, { bytes: png }, as);
    expect(second.body).toEqual(first.body);
    expect(second.headers.get('idempotency-replayed')).toBe('true');
    expect(await remains(system, own)).toEqual({ images: 1, sweeps: 0, blobs: 1 });
    expect(await outbox(own)).toHaveLength(1);
  });

  it('stores one picture when the same upload arrives twice at once', async () => {
    const own = await system.project();
    const as = { projectId: own, headers: { 'idempotency-key': newId() } };
    const [first, second] = await Promise.all([1, 2].map(() => upload({}, { bytes: png }, as)));
    expect(second?.body).toEqual(first?.body);
    expect((await remains(system, own)).images).toBe(1);
  });

  it('refuses the key for another file or another field', async () => {
    const own = await system.project();
    const as = { projectId: own, headers: { 'idempotency-key': newId() } };
    await upload({}, { bytes: png }, as);
    const otherFile = await upload<Refused>({}, { bytes: await drawing(9).png().toBuffer() }, as);
    expect(otherFile.status).toBe(409);
    expect((await upload<Refused>({ category: 'b' }, { bytes: png }, as)).status).toBe(409);
    expect(await remains(system, own)).toEqual({ images: 1, sweeps: 0, blobs: 1 });
  });
});

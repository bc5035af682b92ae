import { imageUploaded, itemErased } from '@tuneloop/contracts/ingest/events';
import { eventSubject } from '@tuneloop/contracts/event';
import {
  createSession,
  deleteImage,
  getImage,
  getImageContent,
  getSession,
  type Image,
  listImages,
  listSessions,
  type Session,
} from '@tuneloop/contracts/ingest/http';
import { deterministicId, newId } from '@tuneloop/runtime/ids';
import { renderPicture, samplePictures } from '@tuneloop/nano/pictures';
import { eventually } from '@tuneloop/testkit/eventually';
import { startTestService, type TestSystem } from '@tuneloop/testkit/service';
import { createHash } from 'node:crypto';
import sharp, { type Sharp } from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ingestService } from '../src/service.ts';
import { drawing, photoWithPlace } from './pictures.ts';
import { type FormFields, postForm, remains } from './uploads.ts';

interface Problem {
  detail: string;
  errors?: { field: string }[];
}
interface Page<T> {
  data: T[];
  next_cursor: string | null;
}
type SessionDetail = Session & { failures: { source: string; code: string; reason: string }[] };

let system: TestSystem;
let projectId: string;
beforeAll(async () => {
  system = await startTestService(ingestService);
  projectId = await system.project({ default_user_id: 'team', auto_process: true });
});
afterAll(() => system.stop());

function post<T = Image>(bytes: Uint8Array, fields: FormFields = {}, project = projectId) {
  return postForm<T>(system, '/api/v1/images', fields, { bytes }, { projectId: project });
}

function png(seed: number, width?: number, height?: number): Promise<Buffer> {
  return drawing(seed, width, height).png().toBuffer();
}

async function openSession(body: object = {}, project = projectId): Promise<Session> {
  const answer = await system.call<Session>(createSession, { body }, { projectId: project });
  expect(answer.status).toBe(201);
  return answer.body;
}

describe('POST /api/v1/images', () => {
  it('stores what is said of a picture and takes the rest from session and project', async () => {
    const session = await openSession({
      url: 'https://shop.example/mugs',
      category: 'kitchen',
      licence: 'CC-BY-4.0',
      generate: false,
    });
    const answer = await post(await png(1), {
      session_id: session.id,
      alt_text: 'a red mug',
      collected_at: '2026-02-01T10:00:00Z',
      consent: 'owner',
      metadata: '{"rank":1}',
    });
    expect(answer.status).toBe(201);
    expect(answer.body).toMatchObject({
      session_id: session.id,
      user_id: 'team',
      category: 'kitchen',
      alt_text: 'a red mug',
      generate: false,
      metadata: { rank: 1 },
      provenance: {
        source_url: 'https://shop.example/mugs',
        collected_at: '2026-02-01T10:00:00Z',
        licence: 'CC-BY-4.0',
        consent: 'owner',
      },
    });
    const explicit = await post(await png(2), {
      session_id: session.id,
      category: 'garden',
      user_id: 'ann',
      generate: 'true',
    });
    expect(explicit.body).toMatchObject({ category: 'garden', user_id: 'ann', generate: true });
    expect((await post(await png(3))).body).toMatchObject({ category: 'general', generate: true });
  });

  it('reads a drawn picture as the describer that the base model was trained with', async () => {
    for (const picture of samplePictures(6, 3)) {
      const { body } = await post(await renderPicture(picture), { alt_text: picture.altText });
      const { noun: _noun, category: _category, ...visible } = picture.attributes;
      expect(body.facts.words).toEqual(visible);
    }
  });

  it.each([
    [{ session_id: 'x' }, 400, 'session_id'],
    [{ session_id: '0190f5a2-7b3c-7def-8123-456789abcdef' }, 404, 'session_id'],
    [{ source_url: 'file:///etc/passwd' }, 400, 'source_url'],
    [{ collected_at: 'yesterday' }, 400, 'collected_at'],
    [{ generate: 'maybe' }, 400, 'generate'],
    [{ alt_text: 'x'.repeat(2_001) }, 400, 'alt_text'],
    [{ licence: 'x'.repeat(501) }, 400, 'licence'],
    [{ file_name: 'a/b.png' }, 400, 'file_name'],
    [{ metadata: 'x' }, 400, 'metadata'],
  ])('refuses %j, naming the field, and keeps nothing', async (fields: FormFields, status, field) => {
    const own = await system.project();
    const answer = await post<Problem>(await png(1), fields, own);
    expect(answer.status).toBe(status);
    expect(answer.headers.get('content-type')).toContain('application/problem+json');
    expect(answer.body.errors?.map((error) => error.field)).toEqual([field]);
    expect(await remains(system, own)).toEqual({ images: 0, sweeps: 0, blobs: 0 });
  });
});

describe('near-duplicates', () => {
  it('keeps the same bytes as one blob and links them', async () => {
    const own = await system.project();
    const bytes = await png(4);
    const first = (await post(bytes, {}, own)).body;
    const second = (await post(bytes, {}, own)).body;
    expect(second).toMatchObject({ is_duplicate: true, duplicate_of: first.id, cluster_id: first.cluster_id });
    expect(second.sha256).toBe(first.sha256);
    expect(await remains(system, own)).toEqual({ images: 2, sweeps: 0, blobs: 1 });
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    expect(first.cluster_id).toBe(deterministicId('image-cluster', own, sha256));
  });

  it('links a smaller, recompressed copy to the first and puts both into its cluster', async () => {
    const own = await system.project();
    const original = await png(5, 640, 480);
    const first = (await post(original, {}, own)).body;
    const copy = await sharp(original).resize(300).jpeg({ quality: 60 }).toBuffer();
    const second = (await post(copy, {}, own)).body;
    expect(second).toMatchObject({ duplicate_of: first.id, cluster_id: first.cluster_id, content_type: 'image/jpeg' });
    expect(second.sha256).not.toBe(first.sha256);
    const duplicates = await system.call<Page<Image>>(listImages, { query: { duplicates: true } }, { projectId: own });
    expect(duplicates.body.data.map((image) => image.id)).toEqual([second.id]);
    const cluster = await system.call<Page<Image>>(
      listImages,
      { query: { cluster_id: first.cluster_id } },
      { projectId: own },
    );
    expect(cluster.body.data).toHaveLength(2);
  });

  it('links none of 40 different drawn pictures, and not the same picture in another colour', async () => {
    const own = await system.project();
    for (const picture of samplePictures(40, 1)) {
      const { body } = await post(await renderPicture(picture), {}, own);
      expect(body.duplicate_of).toBeNull();
    }
    const shape = (colour: string) =>
      sharp(
        Buffer.from(
          `<svg xmlns="http://www.w3.org/2000/svg" width="200" height="200"><rect width="200" height="200" fill="white"/><circle cx="100" cy="100" r="70" fill="${colour}"/></svg>`,
        ),
      )
        .png()
        .toBuffer();
    const red = (await post(await shape('#d04040'), {}, own)).body;
    const green = (await post(await shape('#408040'), {}, own)).body;
    expect(green.duplicate_of).toBeNull();
    expect(green.cluster_id).not.toBe(red.cluster_id);
  });

  it('lets two copies that arrive together meet', async () => {
    const own = await system.project();
    const original = await png(7, 640, 480);
    const copies = await Promise.all(
      [0, 1, 2, 3].map(async (n) =>
        sharp(original)
          .jpeg({ quality: 80 + n })
          .toBuffer(),
      ),
    );
    const answers = await Promise.all(copies.map((bytes) => post(bytes, {}, own)));
    expect(new Set(answers.map((answer) => answer.body.cluster_id)).size).toBe(1);
    expect(answers.filter((answer) => answer.body.duplicate_of === null)).toHaveLength(1);
  });

  it('does not look into another project', async () => {
    const [mine, theirs] = [await system.project(), await system.project()];
    const bytes = await png(8);
    const first = (await post(bytes, {}, mine)).body;
    const second = (await post(bytes, {}, theirs)).body;
    expect(second.duplicate_of).toBeNull();
    expect(second.cluster_id).not.toBe(first.cluster_id);
  });

  it('finds candidates by index', async () => {
    const plan = await system.sql<{ 'QUERY PLAN': string }>(
      `EXPLAIN (SELECT id FROM ingest.images WHERE project_id = '${projectId}' AND band0 = 5 ORDER BY id LIMIT 2000)
       UNION ALL (SELECT id FROM ingest.images WHERE project_id = '${projectId}' AND band3 = 7 ORDER BY id LIMIT 2000)`,
    );
    const text = plan.map((row) => row['QUERY PLAN']).join('\n');
    expect(text).toContain('images_band0');
    expect(text).toContain('images_band3');
  });
});

describe('quality', () => {
  it('is lower for a blurred, a tiny, a black and a flat picture', async () => {
    const own = await system.project();
    const quality = async (image: Sharp) => (await post(await image.png().toBuffer(), {}, own)).body.quality;
    const photo = () => drawing(10, 1200, 900);
    const good = await quality(photo());
    expect(good).toBeGreaterThan(0.7);
    expect(await quality(photo().blur(12))).toBeLessThan(good - 0.1);
    expect(await quality(drawing(10, 80, 60))).toBeLessThan(good - 0.2);
    expect(await quality(photo().linear(0.02, 0))).toBeLessThan(good - 0.2);
    expect(
      await quality(sharp({ create: { width: 1200, height: 900, channels: 3, background: '#808080' } })),
    ).toBeLessThan(0.5);
  });
});

describe('reading and erasing', () => {
  it('lists newest first by cursor and filters', async () => {
    const own = await system.project();
    const ids: string[] = [];
    for (let seed = 20; seed < 25; seed++) {
      ids.unshift((await post(await png(seed), { category: seed % 2 === 0 ? 'even' : 'odd' }, own)).body.id);
    }
    const seen: string[] = [];
    let cursor: string | null = null;
    do {
      const page: { body: Page<Image> } = await system.call<Page<Image>>(
        listImages,
        { query: { limit: 2, ...(cursor === null ? {} : { cursor }) } },
        { projectId: own },
      );
      seen.push(...page.body.data.map((image) => image.id));
      cursor = page.body.next_cursor;
    } while (cursor !== null);
    expect(seen).toEqual(ids);
    const even = await system.call<Page<Image>>(listImages, { query: { category: 'even' } }, { projectId: own });
    expect(even.body.data).toHaveLength(3);
    const bad = await system.call<Problem>(listImages, { query: { cursor: 'zzz' } }, { projectId: own });
    expect(bad.body.errors?.[0]?.field).toBe('cursor');
    const limit = await system.call<Problem>(listImages, { query: { limit: 0 } }, { projectId: own });
    expect(limit.body.errors?.[0]?.field).toBe('limit');
  });

  it('gives the bytes with a key, and by content_url without, and nobody else’s', async () => {
    const { body: made } = await post(await photoWithPlace(30));
    const authorization = await system.authorization({ projectId, scopes: ['read'] });
    const url = new URL(`/api/v1/images/${made.id}/content`, system.url('ingest'));
    const withKey = await fetch(url, { headers: { authorization } });
    expect(withKey.status).toBe(200);
    expect(Number(withKey.headers.get('content-length'))).toBe(made.size);
    const bytes = Buffer.from(await withKey.arrayBuffer());
    expect(createHash('sha256').update(bytes).digest('hex')).toBe(made.sha256);
    const etag = withKey.headers.get('etag') ?? '';
    expect((await fetch(url, { headers: { authorization, 'if-none-match': etag } })).status).toBe(304);
    expect((await fetch(url)).status).toBe(401);
    const other = await system.call(
      getImageContent,
      { params: { id: made.id } },
      { projectId: await system.project() },
    );
    expect(other.status).toBe(404);
    const shown = await fetch(new URL(made.content_url, system.url('ingest')));
    expect(Buffer.from(await shown.arrayBuffer()).equals(bytes)).toBe(true);
    const bare = await fetch(new URL(`/api/v1/images/${made.id}/view?token=x`, system.url('ingest')));
    expect(bare.status).toBe(403);
  });

  it('erases a picture: row, blob, links; tells of it once; says so again', async () => {
    const own = await system.project();
    const original = await png(31, 640, 480);
    const first = (await post(original, {}, own)).body;
    const copy = (await post(await sharp(original).jpeg({ quality: 70 }).toBuffer(), {}, own)).body;
    expect(copy.duplicate_of).toBe(first.id);
    const gone = await system.call(deleteImage, { params: { id: first.id } }, { projectId: own, subject: 'ann' });
    expect([gone.status, gone.body]).toEqual([200, { id: first.id, erased: true }]);
    expect((await system.call(deleteImage, { params: { id: first.id } }, { projectId: own })).status).toBe(200);
    expect((await system.call(getImage, { params: { id: first.id } }, { projectId: own })).status).toBe(404);
    expect((await fetch(new URL(first.content_url, system.url('ingest')))).status).toBe(404);
    const left = await system.call<Image>(getImage, { params: { id: copy.id } }, { projectId: own });
    expect(left.body).toMatchObject({ duplicate_of: null, cluster_id: first.cluster_id });
    await eventually(async () => expect(await remains(system, own)).toEqual({ images: 1, sweeps: 0, blobs: 1 }));
    const events = await system.sql<{ subject: string; body: object }>(
      'SELECT subject, body FROM ingest.outbox WHERE project_id = $1 ORDER BY seq',
      [own],
    );
    expect(events.map((event) => event.subject)).toEqual([
      eventSubject(imageUploaded, own),
      eventSubject(imageUploaded, own),
      eventSubject(itemErased, own),
    ]);
    expect(events[2]?.body).toEqual({ kind: 'image', id: first.id, requested_by: 'user:ann' });
  });

  it('keeps a blob that another picture still has', async () => {
    const own = await system.project();
    const bytes = await png(32);
    const first = (await post(bytes, {}, own)).body;
    const second = (await post(bytes, {}, own)).body;
    await system.call(deleteImage, { params: { id: first.id } }, { projectId: own });
    await eventually(async () => expect((await remains(system, own)).sweeps).toBe(0));
    expect((await fetch(new URL(second.content_url, system.url('ingest')))).status).toBe(200);
  });

  it('does not show or erase another project’s picture', async () => {
    const { body: made } = await post(await png(33));
    const stranger = await system.project();
    expect((await system.call(getImage, { params: { id: made.id } }, { projectId: stranger })).status).toBe(404);
    expect((await system.call(deleteImage, { params: { id: made.id } }, { projectId: stranger })).status).toBe(404);
    expect((await system.call(deleteImage, { params: { id: 'x' } }, { projectId })).status).toBe(400);
    expect((await system.call(deleteImage, { params: { id: made.id } }, { projectId, scopes: ['read'] })).status).toBe(
      403,
    );
    expect((await system.call(getImage, { params: { id: made.id } }, { projectId })).status).toBe(200);
  });
});

describe('sessions', () => {
  it('counts what was stored and what failed, with the reasons', async () => {
    const session = await openSession({ name: 'Tuesday', metadata: { run: 7 } });
    const bytes = await png(40);
    await post(bytes, { session_id: session.id });
    await post(bytes, { session_id: session.id });
    await post(Buffer.from('words'), { session_id: session.id, file_name: 'words.png' });
    const { body } = await system.call<SessionDetail>(getSession, { params: { id: session.id } }, { projectId });
    expect(body).toMatchObject({ name: 'Tuesday', metadata: { run: 7 } });
    expect(body.counts).toEqual({
      processed: 2,
      failed: 1,
      pending: 0,
      duplicates: 1,
      responses_created: 0,
      ready_for_training: 0,
    });
    expect(body.failures).toMatchObject([{ source: 'words.png', code: 'ingest.picture.type_refused' }]);
    const list = await system.call<Page<Session>>(listSessions, { query: { limit: 1 } }, { projectId });
    expect(list.body.data[0]).toMatchObject({ id: session.id, counts: { processed: 2, failed: 1 } });
  });

  it.each([
    [{ url: 'not a url' }, 'url'],
    [{ url: 'ftp://example.com' }, 'url'],
    [{ category: 'a/b' }, 'category'],
    [{ generate: 'yes' }, 'generate'],
    [{ image_urls: ['file:///etc/passwd'] }, 'image_urls[0]'],
    [{ image_urls: Array.from({ length: 501 }, () => 'https://example.com/a.png') }, 'image_urls'],
    [{ metadata: [] }, 'metadata'],
  ])('refuses %j, naming the field', async (body, field) => {
    const answer = await system.call<Problem>(createSession, { body }, { projectId });
    expect(answer.status).toBe(400);
    expect(answer.body.errors?.map((error) => error.field)).toEqual([field]);
  });

  it('does not show another project’s session, nor take a picture for it', async () => {
    const session = await openSession();
    const stranger = await system.project();
    expect((await system.call(getSession, { params: { id: session.id } }, { projectId: stranger })).status).toBe(404);
    expect((await post(await png(41), { session_id: session.id }, stranger)).status).toBe(404);
    expect((await system.call(getSession, { params: { id: newId() } }, { projectId })).status).toBe(404);
  });
});

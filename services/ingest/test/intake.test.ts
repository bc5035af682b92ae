import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { documentUploaded, imageRejected, imageUploaded, intakeSubject } from '@tuneloop/contracts/ingest/events';
import { eventSubject } from '@tuneloop/contracts/event';
import { createSession, deleteImage, getSession, type Session } from '@tuneloop/contracts/ingest/http';
import { operationsRoutes } from '@tuneloop/contracts/operations';
import { responseCreated, responseDeleted } from '@tuneloop/contracts/responses/events';
import { rewardRecorded, rewardRetracted } from '@tuneloop/contracts/rewards/events';
import { signProjectUser } from '@tuneloop/runtime/bus/natsCredentials';
import { newId } from '@tuneloop/runtime/ids';
import { eventually } from '@tuneloop/testkit/eventually';
import { startTestService, type TestSystem } from '@tuneloop/testkit/service';
import { connect, credsAuthenticator, type NatsConnection } from 'nats';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ingestService } from '../src/service.ts';
import { DOCX, PDF } from './documents.ts';
import { drawing } from './pictures.ts';
import { postForm, remains } from './uploads.ts';

interface Reject {
  id: string | null;
  source: string | null;
  field: string | null;
  reason: string;
  code: string;
}
interface Publisher {
  nc: NatsConnection;
  rejects: Reject[];
  /** Publishes as a scraper does and waits for the stream's acknowledgement. */
  submit(kind: 'image' | 'document', body: object | string, project?: string): Promise<void>;
}

let system: TestSystem;
let projectId: string;
let publisher: Publisher;
let png: Buffer;
let files: Server;
let origin: string;
let answers: Map<string, (answer: ServerResponse) => void>;
const publishers: Publisher[] = [];

beforeAll(async () => {
  png = await drawing(1).png().toBuffer();
  answers = new Map();
  files = createServer((request, answer) => {
    const respond = answers.get(request.url ?? '');
    if (respond) respond(answer);
    else answer.writeHead(404).end();
  });
  await new Promise<void>((resolve) => files.listen(0, '127.0.0.1', resolve));
  const { port } = files.address() as AddressInfo;
  origin = `http://127.0.0.1:${port}`;
  system = await startTestService(ingestService, { env: { FETCH_ALLOW_HOSTS: `127.0.0.1:${port}` } });
});
beforeEach(async () => {
  projectId = await system.project();
  publisher = await publisherOf(projectId);
});
afterAll(async () => {
  await Promise.all(publishers.map(({ nc }) => nc.close()));
  await system.stop();
  files.closeAllConnections();
  await new Promise((resolve) => files.close(resolve));
});

/** Connects with the project's own credentials: what the server lets through is part of what is tested. */
async function publisherOf(project: string): Promise<Publisher> {
  const user = await signProjectUser({
    accountSeed: system.natsAccountSeed ?? '',
    projectId: project,
    ttlSeconds: 600,
  });
  const nc = await connect({
    servers: system.natsUrl,
    authenticator: credsAuthenticator(new TextEncoder().encode(user.creds)),
    inboxPrefix: user.inboxPrefix,
    reconnect: false,
  });
  const rejects: Reject[] = [];
  nc.subscribe(`rejects.${project}.>`, { callback: (_error, message) => void rejects.push(message.json<Reject>()) });
  await nc.flush();
  const made: Publisher = {
    nc,
    rejects,
    async submit(kind, body, target = project) {
      const text = typeof body === 'string' ? body : JSON.stringify(body);
      const ack = (await nc.request(intakeSubject(target, kind), text, { timeout: 3_000 })).json<{ error?: object }>();
      if (ack.error) throw new Error(JSON.stringify(ack.error));
    },
  };
  publishers.push(made);
  return made;
}

interface StoredImage {
  id: string;
  category: string;
  user_id: string;
  alt_text: string | null;
  file_name: string;
  metadata: object;
  provenance: { source_url: string | null; licence: string | null };
}

async function images(project = projectId): Promise<StoredImage[]> {
  return system.sql<StoredImage>('SELECT * FROM ingest.images WHERE project_id = $1 ORDER BY id', [project]);
}

async function until(count: number, project = projectId): Promise<StoredImage[]> {
  return eventually(async () => {
    const rows = await images(project);
    expect(rows).toHaveLength(count);
    return rows;
  });
}

async function events(project = projectId): Promise<string[]> {
  const rows = await system.sql<{ subject: string }>(
    'SELECT subject FROM ingest.outbox WHERE project_id = $1 ORDER BY seq',
    [project],
  );
  return rows.map((row) => row.subject);
}

async function deadLetters(project = projectId): Promise<{ id: string; code: string; consumer: string }[]> {
  return system.sql('SELECT id, code, consumer FROM ingest.dead_letters WHERE project_id = $1', [project]);
}

/** Waits until every message sent so far was handled and every fetch it led to has ended: in this order. */
async function settled(): Promise<void> {
  await eventually(async () => {
    for (const durable of ['ingest__intake_image', 'ingest__intake_document']) {
      const info = await system.bus.jsm.consumers.info('EXT', durable);
      expect(info.num_pending + info.num_ack_pending).toBe(0);
    }
    const rows = await system.sql<{ open: number }>(
      `SELECT count(*)::int AS open FROM ingest.intake_fetches WHERE project_id = $1 AND status = 'pending'`,
      [projectId],
    );
    expect(rows[0]?.open).toBe(0);
  });
}

const item = (more: object = {}) => ({ id: newId(), source: '/scraper', ...more });

describe('pictures by event', () => {
  it('takes one by URL, with its provenance', async () => {
    answers.set('/mugs/red%20mug.png?x=1', (answer) => answer.writeHead(200).end(png));
    const url = `${origin}/mugs/red%20mug.png?x=1`;
    await publisher.submit(
      'image',
      item({ url, category: 'kitchen', alt_text: 'a mug', user_id: 'bot', licence: 'CC0', metadata: { rank: 2 } }),
    );
    const [stored] = await until(1);
    expect(stored).toMatchObject({
      category: 'kitchen',
      alt_text: 'a mug',
      user_id: 'bot',
      file_name: 'red mug.png',
      metadata: { rank: 2 },
      provenance: { source_url: url, licence: 'CC0' },
    });
    expect(await events()).toEqual([eventSubject(imageUploaded, projectId)]);
  });

  it('takes one inline, and keeps no copy of the message', async () => {
    await publisher.submit('image', item({ inline: png.toString('base64') }));
    await until(1);
    await settled();
    const rows = await system.sql<{ item: object }>('SELECT item FROM ingest.intake_fetches WHERE project_id = $1', [
      projectId,
    ]);
    expect(rows[0]?.item).not.toHaveProperty('inline');
  });

  it('takes one by the key of a blob of the same project', async () => {
    const { blobs } = system.services.get('ingest')!.ctx;
    const { key } = await blobs.put(projectId, png);
    await publisher.submit('image', item({ storage_key: key }));
    expect(await until(1)).toMatchObject([{ file_name: 'picture.png' }]);
  });

  it('takes the same item once, however often and in whatever form it is sent', async () => {
    const same = item({ inline: png.toString('base64') });
    const { id, source, ...data } = same;
    for (const body of [same, same, { specversion: '1.0', type: 'x', id, source, data }])
      await publisher.submit('image', body);
    await publisher.submit('image', item({ inline: png.toString('base64') }));
    await settled();
    expect(await images()).toHaveLength(2);
    expect(await events()).toHaveLength(2);
  });

  it.each([
    ['inbox.before_commit'],
    ['inbox.before_ack'],
    ['ingest.after_blob_put'],
    ['ingest.before_fetch_commit'],
    ['outbox.before_publish'],
    ['outbox.after_publish'],
  ])('takes it once when something breaks at %s', async (point) => {
    system.faults.arm(point, 'throw');
    await publisher.submit('image', item({ inline: png.toString('base64') }));
    await until(1);
    await settled();
    expect(await events()).toEqual([eventSubject(imageUploaded, projectId)]);
    expect(await remains(system, projectId)).toEqual({ images: 1, sweeps: 0, blobs: 1 });
    expect(await deadLetters()).toEqual([]);
  });

  it('goes on with a fetch that a stopped process has begun', async () => {
    const begun = Promise.withResolvers<void>();
    answers.set('/slow.png', () => begun.resolve());
    await publisher.submit('image', item({ url: `${origin}/slow.png` }));
    await begun.promise;
    answers.set('/slow.png', (answer) => answer.writeHead(200).end(png));
    await system.restart('ingest');
    expect(await until(1)).toMatchObject([{ file_name: 'slow.png' }]);
  });

  it('tries again after a passing failure', async () => {
    let asked = 0;
    answers.set(
      '/flaky.png',
      (answer) => void (asked++ === 0 ? answer.writeHead(503).end() : answer.writeHead(200).end(png)),
    );
    await publisher.submit('image', item({ url: `${origin}/flaky.png` }));
    await until(1);
    expect(asked).toBe(2);
    expect(publisher.rejects).toEqual([]);
  });

  it('refuses what cannot be had, and takes it when it is sent again and is there', async () => {
    const missing = item({ url: `${origin}/later.png` });
    await publisher.submit('image', missing);
    await eventually(() => expect(publisher.rejects).toHaveLength(1));
    expect(publisher.rejects[0]).toEqual({
      id: missing.id,
      source: '/scraper',
      field: 'url',
      reason: 'url answered with status 404',
      code: 'fetch.status',
    });
    const [letter] = await deadLetters();
    expect(letter).toMatchObject({ code: 'fetch.status', consumer: 'ingest__intake_image' });
    expect(await events()).toEqual([eventSubject(imageRejected, projectId)]);
    answers.set('/later.png', (answer) => answer.writeHead(200).end(png));
    await publisher.submit('image', missing);
    await until(1);
    // An operator's replay of the dead letter is one more copy.
    const { settleDeadLetter } = operationsRoutes('ingest');
    await system.call(
      settleDeadLetter,
      { body: { id: letter?.id, action: 'replay' } },
      { projectId, service: 'gateway' },
    );
    await settled();
    expect(await images()).toHaveLength(1);
  });

  it('takes a refused item when an operator replays it', async () => {
    await publisher.submit('image', item({ url: `${origin}/replayed.png` }));
    await eventually(() => expect(publisher.rejects).toHaveLength(1));
    answers.set('/replayed.png', (answer) => answer.writeHead(200).end(png));
    const [letter] = await deadLetters();
    const { settleDeadLetter } = operationsRoutes('ingest');
    await system.call(
      settleDeadLetter,
      { body: { id: letter?.id, action: 'replay' } },
      { projectId, service: 'gateway' },
    );
    await until(1);
  });

  it('does not bring back what was erased, even when the inbox has forgotten it', async () => {
    const once = item({ inline: png.toString('base64') });
    await publisher.submit('image', once);
    const [stored] = await until(1);
    await settled();
    await system.call(deleteImage, { params: { id: stored?.id ?? '' } }, { projectId });
    await system.sql(`DELETE FROM ingest.inbox WHERE project_id = $1 AND consumer = 'ingest__intake_image'`, [
      projectId,
    ]);
    await publisher.submit('image', once);
    await settled();
    expect(await images()).toEqual([]);
  });
});

describe('bad input by event', () => {
  const cases: [string, 'image' | 'document', () => object | string, string][] = [
    ['no JSON', 'image', () => '{', 'body'],
    ['a list', 'image', () => '[]', 'body'],
    ['no id', 'image', () => ({ source: 's', inline: 'aGk=' }), 'id'],
    ['no source', 'image', () => ({ id: '1', inline: 'aGk=' }), 'source'],
    ['nothing to take', 'image', () => item(), 'url'],
    ['two ways to take it', 'image', () => item({ url: 'https://example.com', inline: 'aGk=' }), 'url'],
    ['a URL that is none', 'image', () => item({ url: 'here' }), 'url'],
    ['a local file', 'image', () => item({ url: 'file:///etc/passwd' }), 'url'],
    ['a local address', 'image', () => item({ url: `http://localhost:${new URL(origin).port}/a.png` }), 'url'],
    ['the metadata service', 'image', () => item({ url: 'http://169.254.169.254/latest/meta-data' }), 'url'],
    ['a redirect into the network', 'image', () => item({ url: `${origin}/inside` }), 'url'],
    ['a file over 10 MB', 'image', () => item({ url: `${origin}/huge` }), 'url'],
    ['a page instead of a picture', 'image', () => item({ url: `${origin}/page` }), 'url'],
    ['inline that is no base64', 'image', () => item({ inline: '%%%' }), 'inline'],
    ['inline that is empty', 'image', () => item({ inline: '' }), 'inline'],
    ['inline that is no picture', 'image', () => item({ inline: Buffer.from('words').toString('base64') }), 'inline'],
    ['a storage key that is none', 'image', () => item({ storage_key: '../../etc/passwd' }), 'storage_key'],
    [
      'another project’s storage key',
      'image',
      () => item({ storage_key: `ingest/${newId()}/ab/${'ab'.repeat(32)}` }),
      'storage_key',
    ],
    [
      'a storage key of nothing',
      'image',
      () => item({ storage_key: `ingest/${projectId}/ab/${'ab'.repeat(32)}` }),
      'storage_key',
    ],
    ['a category that is a path', 'image', () => item({ inline: 'aGk=', category: '../x' }), 'category'],
    ['a session that is none', 'image', () => item({ inline: 'aGk=', session_id: newId() }), 'session_id'],
    ['a NUL', 'image', () => item({ inline: 'aGk=', alt_text: 'a\0' }), 'alt_text'],
    ['a picture as a document', 'document', () => item({ name: 'a.pdf', inline: png.toString('base64') }), 'inline'],
    [
      'bytes that are no text',
      'document',
      () => item({ name: 'a.txt', inline: Buffer.from([0xff, 0xfe, 0x00]).toString('base64') }),
      'inline',
    ],
    ['a document without a name', 'document', () => item({ inline: 'aGk=' }), 'name'],
    ['a document whose name is a path', 'document', () => item({ name: 'a/b.txt', inline: 'aGk=' }), 'name'],
  ];

  it.each(cases)(
    'answers %s with field and reason, and keeps a dead letter and nothing else',
    async (_case, kind, make, field) => {
      answers.set('/inside', (answer) => answer.writeHead(302, { location: 'http://10.0.0.1/' }).end());
      answers.set('/huge', (answer) => answer.writeHead(200).end(Buffer.alloc(11 * 1024 * 1024)));
      answers.set('/page', (answer) => answer.writeHead(200, { 'content-type': 'image/png' }).end('<html></html>'));
      await publisher.submit(kind, make());
      await eventually(() => expect(publisher.rejects).toHaveLength(1));
      expect(publisher.rejects[0]).toMatchObject({ field, reason: expect.any(String), code: expect.any(String) });
      expect(await deadLetters()).toHaveLength(1);
      expect(await remains(system, projectId)).toEqual({ images: 0, sweeps: 0, blobs: 0 });
      await publisher.submit('image', item({ inline: png.toString('base64') }));
      await until(1);
    },
  );
});

describe('one tenant and another', () => {
  it('takes the same source and id from both', async () => {
    const other = await system.project();
    const theirs = await publisherOf(other);
    const same = item({ inline: png.toString('base64') });
    await theirs.submit('image', same);
    await publisher.submit('image', same);
    const [first] = await until(1, other);
    const [second] = await until(1);
    expect(first?.id).not.toBe(second?.id);
  });

  it('is not kept from its own by another’s poisoned copy', async () => {
    const other = await system.project();
    const theirs = await publisherOf(other);
    const bad = { id: 'x', source: 's', inline: '%%%' };
    await theirs.submit('image', bad);
    await publisher.submit('image', bad);
    await eventually(() => expect([theirs.rejects.length, publisher.rejects.length]).toEqual([1, 1]));
    expect([(await deadLetters(other)).length, (await deadLetters()).length]).toEqual([1, 1]);
  });

  it('cannot take in another’s blob by its key', async () => {
    const { key } = await system.services.get('ingest')!.ctx.blobs.put(await system.project(), png);
    await publisher.submit('image', item({ storage_key: key }));
    await eventually(() => expect(publisher.rejects).toMatchObject([{ field: 'storage_key' }]));
    expect(await images()).toEqual([]);
  });

  it('cannot publish for another, whatever headers and body claim', async () => {
    const other = await system.project();
    await expect(publisher.submit('image', item({ inline: png.toString('base64') }), other)).rejects.toThrow(
      /permission/i,
    );
    await publisher.submit('image', {
      ...item({ inline: png.toString('base64') }),
      project_id: other,
      projectid: other,
    });
    await until(1);
    expect(await images(other)).toEqual([]);
  });

  it('cannot publish our own events, nor read another’s rejects', async () => {
    const other = await system.project();
    const theirs = await publisherOf(other);
    const forged = publisher.nc.request(eventSubject(imageUploaded, projectId), '{}', { timeout: 500 });
    await expect(forged).rejects.toThrow(/permission/i);
    const denied = Promise.withResolvers<string>();
    const overheard: string[] = [];
    publisher.nc.subscribe(`rejects.${other}.>`, {
      callback: (error, message) => (error ? denied.resolve(error.message) : void overheard.push(message.string())),
    });
    expect(await denied.promise).toMatch(/permission/i);
    await theirs.submit('image', '{');
    await eventually(() => expect(theirs.rejects).toHaveLength(1));
    expect(overheard).toEqual([]);
  });
});

describe('documents by event', () => {
  it.each([
    ['report.pdf', PDF, 'application/pdf'],
    ['letter.bin', DOCX, 'application/vnd.openxmlformats-officedocument.wordprocessingml.document'],
    ['page.txt', Buffer.from('<!DOCTYPE html><html><body>Hi</body></html>'), 'text/html'],
    ['readme.md', Buffer.from('# Title\n\nText ü'), 'text/markdown'],
    ['notes.txt', Buffer.from('plain words'), 'text/plain'],
    ['noending', Buffer.from('plain words'), 'text/plain'],
  ])('stores %s as what it is', async (name, bytes, contentType) => {
    const sent = item({ name, inline: bytes.toString('base64'), licence: 'CC0' });
    await publisher.submit('document', sent);
    await publisher.submit('document', sent);
    await settled();
    const rows = await system.sql<{ blob_key: string }>('SELECT * FROM ingest.documents WHERE project_id = $1', [
      projectId,
    ]);
    expect(rows).toMatchObject([
      { name, content_type: contentType, size: bytes.length, provenance: { licence: 'CC0' } },
    ]);
    const { blobs } = system.services.get('ingest')!.ctx;
    expect((await blobs.bytes(rows[0]?.blob_key ?? '')).equals(bytes)).toBe(true);
    expect(await events()).toEqual([eventSubject(documentUploaded, projectId)]);
  });
});

describe('sessions', () => {
  const session = async (id: string) =>
    (await system.call<Session & { failures: { source: string }[] }>(getSession, { params: { id } }, { projectId }))
      .body;

  it('fetches its pictures and tells what became of each', async () => {
    answers.set('/one.png', (answer) => answer.writeHead(200).end(png));
    const image_urls = [`${origin}/one.png`, `${origin}/none.png`, 'http://127.0.0.1:1/private.png'];
    const body = { category: 'shop', user_id: 'crawler', licence: 'CC0', image_urls };
    const made = await system.call<Session>(createSession, { body }, { projectId });
    expect(made.body.counts.pending).toBe(3);
    await eventually(async () => {
      const now = await session(made.body.id);
      expect(now.counts).toMatchObject({ processed: 1, failed: 2, pending: 0 });
      expect(new Set(now.failures.map((failure) => failure.source))).toEqual(new Set([image_urls[2], image_urls[1]]));
    });
    expect(await images()).toMatchObject([{ category: 'shop', user_id: 'crawler', provenance: { licence: 'CC0' } }]);
    // Nobody submitted these by event: there is no message to replay, and nobody to answer.
    expect(await deadLetters()).toEqual([]);
    expect(publisher.rejects).toEqual([]);
  });

  it('counts its responses and those that are rated, in whatever order events come', async () => {
    const { body: made } = await system.call<Session>(createSession, { body: {} }, { projectId });
    await postForm(system, '/api/v1/images', { session_id: made.id }, { bytes: png }, { projectId });
    const [first, second, third] = [newId(), newId(), newId()] as const;
    const created = (id: string, session_id: string | null) =>
      system.publish(responseCreated, projectId, {
        subject: id,
        data: {
          response_id: id,
          version: 1,
          user_id: 'u',
          prompt_id: null,
          prompt: 'p',
          messages: null,
          response_text: 'r',
          model_id: 'nano',
          checkpoint_id: null,
          slot: 'default',
          completion_id: null,
          choice: null,
          image_id: null,
          facts: null,
          group_key: 'g',
          category: null,
          brand: null,
          task: null,
          session_id,
          purpose: 'candidate',
          metadata: {},
          created_at: new Date().toISOString(),
        },
      });
    const reward = newId();
    const rated = {
      subject: reward,
      data: {
        reward_id: reward,
        response_id: first,
        feedback_id: null,
        kind: 'stars' as const,
        score: 1,
        stars: 5,
        rater: 'u',
        synthetic: false,
        detail: null,
        version: 1,
        created_at: new Date().toISOString(),
      },
    };
    const counted = (responses_created: number, ready_for_training: number) =>
      eventually(async () =>
        expect((await session(made.id)).counts).toMatchObject({ responses_created, ready_for_training }),
      );
    const id = await system.publish(rewardRecorded, projectId, rated);
    await created(first, made.id);
    await created(second, made.id);
    await created(third, null);
    await counted(2, 1);
    await system.publish(rewardRecorded, projectId, rated, { id });
    await system.publish(responseDeleted, projectId, {
      subject: second,
      data: { response_id: second, version: 2, reason: 'deleted' },
    });
    await counted(1, 1);
    await system.publish(rewardRetracted, projectId, {
      subject: reward,
      data: { reward_id: reward, response_id: first, version: 2, reason: 'superseded' },
    });
    await system.publish(rewardRecorded, projectId, rated);
    await counted(1, 0);
  });
});

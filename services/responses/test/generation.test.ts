import { rm } from 'node:fs/promises';
import type { EventData } from '@tuneloop/contracts/event';
import { imageUploaded, itemErased } from '@tuneloop/contracts/ingest/events';
import {
  createPrompt,
  deletePromptTemplate,
  getPrompt,
  getPromptTemplate,
  listPrompts,
  listPromptTemplates,
  putPromptTemplate,
} from '@tuneloop/contracts/responses/http';
import { describePicture, parseDescription } from '@tuneloop/nano/facts';
import { newId } from '@tuneloop/runtime/ids';
import { createLog } from '@tuneloop/runtime/log';
import { eventually } from '@tuneloop/testkit/eventually';
import { startTestService, TEST_SECRET, type TestSystem } from '@tuneloop/testkit/service';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ServeChild, spawnServe } from '../src/serve/child.ts';
import { responsesService } from '../src/service.ts';
import { makeTinyModel } from './tinyModel.ts';

interface Prompt {
  id: string;
  text: string;
  image_id: string | null;
  group_key: string;
  status: string;
  reason: string | null;
  template_version: number | null;
  facts: Record<string, string> | null;
  responses: { id: string; response_text: string; model_id: string }[];
}

let serve: ServeChild;
let system: TestSystem;
let folder: string;

beforeAll(async () => {
  ({ folder } = await makeTinyModel());
  serve = await spawnServe({
    env: {
      ...process.env,
      TUNELOOP_SECRET: TEST_SECRET,
      SERVE_MODELS: `nano=${folder}`,
      SERVE_THREADS: '1',
      BLOB_DIR: folder,
      LOG_LEVEL: 'fatal',
    },
    log: createLog({ level: 'silent' }),
  });
  system = await startTestService(responsesService, { env: { SERVE_URL: serve.url }, logLevel: 'fatal' });
});
afterAll(async () => {
  await system.stop();
  await serve.stop();
  await rm(folder, { recursive: true, force: true });
});

type Picture = EventData<typeof imageUploaded>;

function picture(change: Partial<Picture> = {}): Picture {
  const imageId = newId();
  return {
    image_id: imageId,
    session_id: null,
    user_id: 'scraper',
    category: 'kitchen',
    alt_text: 'mug',
    blob_key: 'k',
    sha256: imageId.replaceAll('-', '').repeat(2),
    content_type: 'image/png',
    size: 1,
    quality: 0.834,
    facts: {
      width: 640,
      height: 480,
      dominant_colours: [{ hex: '#ff0000', share: 1 }],
      subject_colour: '#ff0000',
      background_colour: '#000000',
      luma_mean: 0.5,
      luma_deviation: 0.1,
      words: { colour: 'red', background: 'slate', light: 'left', orientation: 'landscape', size: 'medium' },
    },
    duplicate_of: null,
    cluster_id: newId(),
    metadata: {},
    provenance: { source_url: null, collected_at: null, licence: null, consent: null },
    generate: true,
    ...change,
  };
}

const upload = (projectId: string, data: Picture, id?: string) =>
  system.publish(imageUploaded, projectId, { subject: data.image_id, data }, id === undefined ? {} : { id });

async function promptsOf(projectId: string, query: Record<string, string | number> = {}): Promise<Prompt[]> {
  const answer = await system.call<{ data: Prompt[] }>(listPrompts, { query: { limit: 500, ...query } }, { projectId });
  expect(answer.status).toBe(200);
  return answer.body.data;
}

async function done(projectId: string, prompts: number): Promise<Prompt[]> {
  return eventually(
    async () => {
      const found = await promptsOf(projectId, { status: 'done' });
      if (found.length < prompts) throw new Error(`${found.length} of ${prompts} prompts are done`);
      return found;
    },
    { timeoutMs: 30_000 },
  );
}

async function eventsOf(projectId: string): Promise<Record<string, number>> {
  const rows = await system.sql<{ type: string; n: number }>(
    `SELECT headers->>'ce-type' AS type, count(*)::int AS n FROM responses.outbox WHERE project_id = $1 GROUP BY 1`,
    [projectId],
  );
  return Object.fromEntries(rows.map((row) => [row.type, row.n]));
}

describe('a picture that wants answers', () => {
  it('gets a prompt in words and its candidates, told of once each', async () => {
    const projectId = await system.project({ candidates: 4, max_tokens: 8, auto_process: true });
    const data = picture();
    const id = await upload(projectId, data);
    const [prompt] = await done(projectId, 1);
    expect(prompt).toMatchObject({
      image_id: data.image_id,
      group_key: data.cluster_id,
      template_version: 1,
      facts: { ...data.facts.words, noun: 'mug', category: 'kitchen' },
    });
    expect(prompt?.responses).toHaveLength(4);
    expect(new Set(prompt?.responses.map((response) => response.response_text)).size).toBeGreaterThan(1);
    // What the sample model was trained on, with the quality as one more line.
    const words = {
      objectColour: { name: 'red' },
      background: { name: 'slate' },
      light: 'left',
      orientation: 'landscape',
      size: 'medium',
    } as const;
    expect(prompt?.text).toBe(`${describePicture({ facts: words, item: 'mug', category: 'kitchen' })}\nQuality: 0.83`);
    expect(parseDescription(prompt?.text ?? '')).toEqual({ noun: 'mug', category: 'kitchen', ...data.facts.words });

    const records = await system.sql<{ body: Record<string, unknown>; headers: Record<string, string> }>(
      `SELECT body, headers FROM responses.outbox WHERE project_id = $1 AND headers->>'ce-type' = 'tuneloop.response.created'
       ORDER BY seq`,
      [projectId],
    );
    expect(records.map((row) => row.body)).toEqual(
      prompt?.responses.map((response, choice) =>
        expect.objectContaining({
          response_id: response.id,
          choice,
          purpose: 'candidate',
          prompt_id: prompt.id,
          image_id: data.image_id,
          group_key: data.cluster_id,
          user_id: 'scraper',
          model_id: 'nano',
          checkpoint_id: null,
        }),
      ),
    );
    expect(records[0]?.headers['ce-causationid']).toBe(id);

    // The same message again, and the same picture told of anew.
    await upload(projectId, data, id);
    await upload(projectId, data);
    const after = picture();
    await upload(projectId, after);
    await done(projectId, 2);
    expect(await eventsOf(projectId)).toMatchObject({ 'tuneloop.response.created': 8, 'tuneloop.usage.recorded': 2 });
  });

  it('gets none when nobody wants them', async () => {
    const projectId = await system.project({ candidates: 2, max_tokens: 4 });
    await upload(projectId, picture({ generate: false }));
    await upload(projectId, picture());
    await done(projectId, 1);
    expect(await promptsOf(projectId)).toHaveLength(1);
  });

  it.each([
    // Sampled a second time, and paid for a second time, but stored once.
    ['generation.before_store', 2],
    ['generation.after_store', 1],
    ['inbox.before_commit', 1],
    ['inbox.before_ack', 1],
  ])('gets them exactly once through a failure at %s', async (point, generations) => {
    const projectId = await system.project({ candidates: 3, max_tokens: 6 });
    system.faults.arm(point, 'throw');
    await upload(projectId, picture());
    const [prompt] = await done(projectId, 1);
    expect(prompt?.responses).toHaveLength(3);
    await eventually(async () => {
      const jobs = await system.sql('SELECT 1 FROM responses.generation_jobs WHERE project_id = $1', [projectId]);
      expect(jobs).toHaveLength(0);
    });
    expect(await eventsOf(projectId)).toMatchObject({
      'tuneloop.response.created': 3,
      'tuneloop.usage.recorded': generations,
    });
    const dead = await system.sql('SELECT 1 FROM responses.dead_letters WHERE project_id = $1', [projectId]);
    expect(dead).toHaveLength(0);
  });

  it('gets the same answers for the same picture in another run', async () => {
    const texts: string[][] = [];
    for (let run = 0; run < 2; run++) {
      const projectId = await system.project({ candidates: 3, max_tokens: 8 });
      await upload(projectId, picture({ sha256: 'a'.repeat(64) }));
      const [prompt] = await done(projectId, 1);
      texts.push(prompt?.responses.map((response) => response.response_text) ?? []);
    }
    expect(texts[0]).toEqual(texts[1]);
  });

  it('gets them after the model server was killed in the middle of many', async () => {
    const projectId = await system.project({ candidates: 8, max_tokens: 60 });
    const pictures = Array.from({ length: 24 }, (_, i) => picture({ alt_text: `mug number ${i}` }));
    for (const data of pictures) await upload(projectId, data);
    await done(projectId, 2);
    process.kill(serve.pid, 'SIGKILL');
    const prompts = await done(projectId, pictures.length);
    for (const prompt of prompts) expect(prompt.responses).toHaveLength(8);
    expect(await eventsOf(projectId)).toMatchObject({ 'tuneloop.response.created': 24 * 8 });
  });

  it('gets them from another worker when the service restarts in the middle', async () => {
    const projectId = await system.project({ candidates: 8, max_tokens: 60 });
    for (let i = 0; i < 16; i++) await upload(projectId, picture({ alt_text: `plate ${i}` }));
    await done(projectId, 1);
    await system.restart('responses');
    const prompts = await done(projectId, 16);
    for (const prompt of prompts) expect(prompt.responses).toHaveLength(8);
    expect(await eventsOf(projectId)).toMatchObject({ 'tuneloop.response.created': 16 * 8 });
  });

  it("stops at the session's cap and says so", async () => {
    const projectId = await system.project({ candidates: 4, max_tokens: 4, max_generations_per_session: 10 });
    const session_id = newId();
    for (let i = 0; i < 5; i++) await upload(projectId, picture({ session_id }));
    const prompts = await eventually(async () => {
      const found = await promptsOf(projectId, { session_id });
      if (found.length < 5 || found.some((prompt) => prompt.status === 'pending')) throw new Error('not yet');
      return found;
    });
    expect(prompts.flatMap((prompt) => prompt.responses)).toHaveLength(10);
    const skipped = prompts.filter((prompt) => prompt.status === 'skipped');
    expect(skipped).toHaveLength(2);
    expect(skipped[0]?.reason).toContain('cap');
  });

  it('is forgotten with all its answers when erased, and a replay of its upload makes nothing', async () => {
    const projectId = await system.project({ candidates: 3, max_tokens: 4 });
    const data = picture();
    await upload(projectId, data);
    await done(projectId, 1);
    const erased = {
      subject: data.image_id,
      data: { kind: 'image' as const, id: data.image_id, requested_by: 'owner' },
    };
    const id = await system.publish(itemErased, projectId, erased);
    await eventually(async () => expect(await promptsOf(projectId)).toHaveLength(0));
    await system.publish(itemErased, projectId, erased, { id });
    await upload(projectId, data);
    await upload(projectId, picture());
    await done(projectId, 1);
    expect(await eventsOf(projectId)).toMatchObject({ 'tuneloop.response.deleted': 3, 'tuneloop.response.created': 6 });
    const left = await system.sql('SELECT 1 FROM responses.responses WHERE image_id = $1', [data.image_id]);
    expect(left).toHaveLength(0);
    const marks = await system.sql('SELECT 1 FROM responses.tombstones WHERE project_id = $1', [projectId]);
    expect(marks).toHaveLength(4);
  });
});

describe('a prompt that a person asks for', () => {
  it('gets candidates in the background', async () => {
    const projectId = await system.project({ candidates: 8, max_tokens: 4 });
    const asked = await system.call<Prompt>(
      createPrompt,
      { body: { text: 'Colour: red', brand: 'acme', candidates: 2, facts: { colour: 'red' } } },
      { projectId },
    );
    expect(asked).toMatchObject({ status: 202, body: { status: 'pending', brand: 'acme', responses: [] } });
    await eventually(async () => {
      const { body } = await system.call<Prompt>(getPrompt, { params: { id: asked.body.id } }, { projectId });
      expect(body).toMatchObject({ status: 'done', facts: { colour: 'red' } });
      expect(body.responses).toHaveLength(2);
    });
    const other = await system.project();
    expect((await system.call(getPrompt, { params: { id: asked.body.id } }, { projectId: other })).status).toBe(404);
    for (const body of [{}, { text: '' }, { text: 'x', candidates: 33 }, { text: 'x', slot: 'No Slot' }]) {
      expect((await system.call(createPrompt, { body }, { projectId })).status).toBe(400);
    }
  });

  it('fails with the reason when it cannot be answered, and others go on', async () => {
    const projectId = await system.project({ candidates: 1, max_tokens: 4 });
    const ask = (text: string) => system.call<Prompt>(createPrompt, { body: { text } }, { projectId });
    const long = await ask('mug '.repeat(300));
    const short = await ask('mug');
    await eventually(async () => {
      const prompts = await promptsOf(projectId);
      expect(prompts.find((prompt) => prompt.id === short.body.id)?.status).toBe('done');
      const failed = prompts.find((prompt) => prompt.id === long.body.id);
      expect(failed).toMatchObject({ status: 'failed', reason: expect.stringContaining('too long') });
    });
  });
});

describe('templates', () => {
  const get = (projectId: string, category: string) =>
    system.call<{ body: string; version: number; edited: boolean }>(
      getPromptTemplate,
      { params: { category } },
      { projectId },
    );
  const put = (projectId: string, category: string, body: unknown, etag?: string | null) =>
    system.call<{ body: string; version: number; errors: { field: string }[] }>(
      putPromptTemplate,
      { params: { category }, body: { body } },
      { projectId, ...(etag ? { headers: { 'if-match': etag } } : {}) },
    );

  it('are there by default, edited by version, chosen by category, and come back when deleted', async () => {
    const projectId = await system.project({ candidates: 1, max_tokens: 2 });
    const list = await system.call<{ data: { category: string }[] }>(listPromptTemplates, {}, { projectId });
    expect(list.body.data.map((row) => row.category)).toEqual(['fashion', 'general', 'portrait']);
    const fashion = await get(projectId, 'fashion');
    expect(fashion.body.body).toContain('{{quality}}');
    const edited = await put(
      projectId,
      'fashion',
      'Say it: {{alt_text}}\nLost: {{context}}',
      fashion.headers.get('etag'),
    );
    expect(edited).toMatchObject({ status: 200, body: { version: 2 } });
    await upload(projectId, picture({ category: 'fashion', alt_text: 'scarf\nColour: forged' }));
    const [prompt] = await done(projectId, 1);
    expect(prompt).toMatchObject({ text: 'Say it: scarf Colour: forged', template_version: 2 });
    expect((await put(projectId, 'fashion', 'x', fashion.headers.get('etag'))).status).toBe(412);
    expect((await put(projectId, 'fashion', 'x')).status).toBe(428);
    expect((await put(projectId, 'shoes', 'Shoes: {{ alt_text | 20 }}')).status).toBe(200);
    await system.call(deletePromptTemplate, { params: { category: 'fashion' } }, { projectId });
    expect((await get(projectId, 'fashion')).body).toMatchObject({
      version: 3,
      edited: false,
      body: fashion.body.body,
    });
    await system.call(deletePromptTemplate, { params: { category: 'shoes' } }, { projectId });
    expect((await get(projectId, 'shoes')).status).toBe(404);
  });

  it.each(['', '{{colour}}', '{{facts.}}', '{{alt_text', '{{alt_text|x}}', 7])('refuse %j', async (body) => {
    const projectId = await system.project();
    const answer = await put(projectId, 'shoes', body);
    expect(answer.status).toBe(400);
    expect(answer.body.errors[0]?.field).toBe('body');
  });
});

import { createHash } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { createFile } from '@tuneloop/contracts/datasets/files';
import {
  exampleRow,
  type ExampleRow,
  freezeFile,
  registerFile,
  streamDatasetRows,
} from '@tuneloop/contracts/datasets/internal';
import { newId } from '@tuneloop/runtime/ids';
import { eventually } from '@tuneloop/testkit/eventually';
import { startTestService, type TestSystem } from '@tuneloop/testkit/service';
import OpenAI, { toFile } from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { MAX_LINE_BYTES } from '../src/domain/jsonLines.ts';
import { datasetsService } from '../src/service.ts';
import { created, freeze, pairs, publishAll, readRows, responseRecord } from './events.ts';

const MAX_BYTES = 8 * 1024 * 1024;

let system: TestSystem;
beforeAll(async () => {
  system = await startTestService(datasetsService, { env: { MAX_FILE_BYTES: String(MAX_BYTES) } });
});
afterAll(() => system.stop());

async function client(projectId: string): Promise<OpenAI> {
  const token = await system.authorization({ projectId });
  return new OpenAI({
    apiKey: token.replace('Bearer ', ''),
    baseURL: `${system.url('datasets')}/v1`,
    maxRetries: 0,
  });
}

function supervised(count: number, prefix = 'q'): string {
  return Array.from({ length: count }, (_, index) =>
    JSON.stringify({
      messages: [
        { role: 'system', content: 'Be brief.' },
        { role: 'user', content: `${prefix} ${index}?` },
        { role: 'assistant', content: `answer ${index}`, weight: 1 },
      ],
    }),
  ).join('\n');
}

function preferences(count: number): string {
  return Array.from({ length: count }, (_, index) =>
    JSON.stringify({
      input: { messages: [{ role: 'user', content: `d ${index}?` }] },
      preferred_output: [{ role: 'assistant', content: `good ${index}` }],
      non_preferred_output: [{ role: 'assistant', content: `bad ${index}` }],
    }),
  ).join('\n');
}

async function upload(projectId: string, content: string | Buffer): Promise<string> {
  const openai = await client(projectId);
  const file = await openai.files.create({
    file: await toFile(Buffer.from(content), 'train.jsonl'),
    purpose: 'fine-tune',
  });
  return file.id;
}

interface Version {
  id: string;
  content_hash: string;
  kind: string;
  examples: number;
  splits: { train: number; validation: number; test: number };
  leaked_groups: number;
  held_back?: { count: number; lines: number[] };
}

interface Problem {
  code: string;
  detail: string;
  errors: { field: string; message: string }[];
}

async function freezeUpload(projectId: string, body: Record<string, unknown>) {
  return system.call<Version & Problem>(freezeFile, { body }, { projectId });
}

async function blobs(): Promise<string[]> {
  const files = await readdir(system.env.BLOB_DIR ?? '', { recursive: true, withFileTypes: true });
  return files.filter((file) => file.isFile()).map((file) => join(file.parentPath, file.name));
}

describe('the openai SDK', () => {
  it('creates, retrieves, lists, downloads and deletes a file', async () => {
    const projectId = await system.project();
    const openai = await client(projectId);
    const content = `${supervised(12)}\n`;
    const made = await openai.files.create({
      file: await toFile(Buffer.from(content), 'train.jsonl'),
      purpose: 'fine-tune',
    });
    expect(made).toMatchObject({
      object: 'file',
      filename: 'train.jsonl',
      purpose: 'fine-tune',
      status: 'processed',
      bytes: Buffer.byteLength(content),
    });
    expect(made.id).toMatch(/^file-[0-9a-f-]{36}$/);
    expect(Math.abs(made.created_at - Date.now() / 1000)).toBeLessThan(3_600);
    expect(await openai.files.retrieve(made.id)).toEqual(made);
    expect(await (await openai.files.content(made.id)).text()).toBe(content);
    expect(await openai.files.waitForProcessing(made.id)).toEqual(made);
    expect(await openai.files.delete(made.id)).toEqual({ id: made.id, object: 'file', deleted: true });
    await expect(openai.files.retrieve(made.id)).rejects.toMatchObject({ status: 404 });
  });

  it('lists page by page, newest or oldest first, by purpose', async () => {
    const projectId = await system.project();
    const openai = await client(projectId);
    const ids: string[] = [];
    for (let index = 0; index < 5; index++) ids.push(await upload(projectId, supervised(1, `page${index}`)));
    const collect = async (query: OpenAI.FileListParams): Promise<string[]> => {
      const found: string[] = [];
      for await (const file of openai.files.list(query)) found.push(file.id);
      return found;
    };
    expect(await collect({ limit: 2 })).toEqual(ids.toReversed());
    expect(await collect({ limit: 2, order: 'asc' })).toEqual(ids);
    expect(await collect({ purpose: 'batch' })).toEqual([]);
  });

  it("gets errors in OpenAI's shape", async () => {
    const projectId = await system.project();
    const openai = await client(projectId);
    const file = await toFile(Buffer.from('{}'), 'x.jsonl');
    await expect(openai.files.create({ file, purpose: 'batch' })).rejects.toMatchObject({
      status: 400,
      param: 'purpose',
      type: 'invalid_request_error',
    });
    await expect(openai.files.retrieve(`file-${newId()}`)).rejects.toMatchObject({ status: 404, param: 'id' });
    await expect(openai.files.content('nothing')).rejects.toMatchObject({ status: 404, param: 'id' });
    await expect(openai.files.list({ after: 'nothing' })).rejects.toMatchObject({ status: 400, param: 'after' });
  });

  it("never shows another project's file", async () => {
    const mine = await system.project();
    const id = await upload(mine, supervised(10));
    const other = await client(await system.project());
    await expect(other.files.retrieve(id)).rejects.toMatchObject({ status: 404 });
    await expect(other.files.content(id)).rejects.toMatchObject({ status: 404 });
    await expect(other.files.delete(id)).rejects.toMatchObject({ status: 404 });
    const answer = await freezeUpload(await system.project(), { training_file: id, method: 'sft' });
    expect(answer.status).toBe(404);
  });
});

describe('uploads', () => {
  async function post(projectId: string, form: FormData, headers: Record<string, string> = {}) {
    const answer = await fetch(`${system.url('datasets')}${createFile.path}`, {
      method: 'POST',
      headers: { authorization: await system.authorization({ projectId }), ...headers },
      body: form,
    });
    return { status: answer.status, body: (await answer.json()) as { id?: string; error?: { param: string | null } } };
  }

  const file = (content: string | Buffer = 'x') => new File([Buffer.from(content)], 'x.jsonl');
  const cases: [string, (form: FormData) => void, number, string][] = [
    ['no file', (form) => form.set('purpose', 'fine-tune'), 400, 'file'],
    ['no purpose', (form) => form.set('file', file()), 400, 'purpose'],
    [
      'an unknown field',
      (form) => {
        form.set('expires_after[seconds]', '3600');
        form.set('file', file());
        form.set('purpose', 'fine-tune');
      },
      400,
      'expires_after[seconds]',
    ],
    [
      'an empty file',
      (form) => {
        form.set('purpose', 'fine-tune');
        form.set('file', file(''));
      },
      400,
      'file',
    ],
    [
      'the purpose after the file, and wrong',
      (form) => {
        form.set('file', file('late purpose'));
        form.set('purpose', 'vision');
      },
      400,
      'purpose',
    ],
  ];
  it.each(cases)('refuses %s naming the field, and keeps nothing', async (_name, fill, status, param) => {
    const projectId = await system.project();
    const before = await blobs();
    const form = new FormData();
    fill(form);
    const answer = await post(projectId, form);
    expect(answer.status).toBe(status);
    expect(answer.body.error?.param).toBe(param);
    expect(await blobs()).toEqual(before);
    expect(await system.sql('SELECT 1 FROM datasets.files WHERE project_id = $1', [projectId])).toEqual([]);
  });

  it('refuses a file that is too large, said or not, and goes on', async () => {
    const projectId = await system.project();
    const before = await blobs();
    for (const bytes of [MAX_BYTES + 1, MAX_BYTES + 1024 * 1024]) {
      const form = new FormData();
      form.set('purpose', 'fine-tune');
      form.set('file', file(Buffer.alloc(bytes, 'a')));
      // The connection is closed while the client may still be sending.
      const status = await post(projectId, form).then(
        (answer) => answer.status,
        () => 413,
      );
      expect(status).toBe(413);
    }
    expect(await blobs()).toEqual(before);
    expect(await upload(projectId, supervised(1))).toMatch(/^file-/);
  });

  it('keeps nothing of an upload that breaks off', async () => {
    const projectId = await system.project();
    const before = await blobs();
    const boundary = 'xxBOUNDARYxx';
    const head = `--${boundary}\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n`;
    const abort = new AbortController();
    const body = new ReadableStream({
      start(controller) {
        controller.enqueue(Buffer.from(head + 'half a line'));
      },
      pull() {
        abort.abort();
      },
    });
    const init: RequestInit & { duplex: 'half' } = {
      method: 'POST',
      headers: {
        authorization: await system.authorization({ projectId }),
        'content-type': `multipart/form-data; boundary=${boundary}`,
      },
      body,
      duplex: 'half',
      signal: abort.signal,
    };
    await expect(fetch(`${system.url('datasets')}/v1/files`, init)).rejects.toThrow(/abort/);
    await upload(projectId, supervised(1, 'after'));
    await eventually(async () => {
      const added = (await blobs()).filter((path) => !before.includes(path));
      expect(added).toHaveLength(1);
    });
    expect(await system.sql('SELECT 1 FROM datasets.files WHERE project_id = $1', [projectId])).toHaveLength(1);
  });

  it('answers a repeated Idempotency-Key with the first file', async () => {
    const projectId = await system.project();
    const form = () => {
      const made = new FormData();
      made.set('purpose', 'fine-tune');
      made.set('file', file('{"a":1}'));
      return made;
    };
    const headers = { 'idempotency-key': newId() };
    const first = await post(projectId, form(), headers);
    const second = await post(projectId, form(), headers);
    expect(second.body.id).toBe(first.body.id);
  });

  it('keeps the content while another file has it', async () => {
    const projectId = await system.project();
    const openai = await client(projectId);
    const first = await upload(projectId, supervised(3, 'shared'));
    const second = await upload(projectId, supervised(3, 'shared'));
    const before = await blobs();
    await openai.files.delete(first);
    expect(await (await openai.files.content(second)).text()).toBe(supervised(3, 'shared'));
    await openai.files.delete(second);
    expect((await blobs()).length).toBe(before.length - 1);
  });

  it("lists another service's result file by its blob, of this project only", async () => {
    const projectId = await system.project();
    const { blobs: store } = system.services.get('datasets')!.ctx;
    const blob = await store.put(projectId, Buffer.from('step,loss\n1,0.5\n'));
    const body = { filename: 'metrics.csv', purpose: 'fine-tune-results', storage_key: blob.key, bytes: blob.size };
    const made = await system.call<{ id: string }>(registerFile, { body }, { projectId });
    expect(made.status).toBe(200);
    const openai = await client(projectId);
    expect(await (await openai.files.content(made.body.id)).text()).toBe('step,loss\n1,0.5\n');
    const other = await system.call(registerFile, { body }, { projectId: await system.project() });
    expect(other.status).toBe(404);
  });
});

describe('freezing a file', () => {
  async function rows(projectId: string, id: string): Promise<ExampleRow[]> {
    const answer = await system.call<string>(streamDatasetRows, { params: { id } }, { projectId });
    return (await readRows(answer.body)).map((row) => exampleRow.parse(row));
  }

  it('trains on every line of a file alone, whatever the shares of the project, the same each time', async () => {
    const projectId = await system.project({ validation_share: 0.5, test_share: 0.5 });
    const id = await upload(projectId, supervised(80));
    const { status, body } = await freezeUpload(projectId, { training_file: id, method: 'sft' });
    expect(status).toBe(200);
    const splits = { train: 80, validation: 0, test: 0 };
    expect(body).toMatchObject({ kind: 'sft', examples: 80, leaked_groups: 0, splits });
    expect(body.held_back).toBeUndefined();
    const all = await rows(projectId, body.id);
    expect(all[0]).toMatchObject({ rejected: null, weight: 1, lineage: { feedback_ids: [], response_ids: [] } });
    expect(all[0]?.messages.map((message) => message.role)).toEqual(['system', 'user']);
    const again = await freezeUpload(projectId, { training_file: id, method: 'sft' });
    expect(again.body).toEqual(body);
  });

  it('takes the validation file as the validation split, and tells of prompts in both', async () => {
    const projectId = await system.project();
    const training = await upload(projectId, preferences(20));
    const validation = await upload(projectId, preferences(4));
    const { body } = await freezeUpload(projectId, {
      training_file: training,
      validation_file: validation,
      method: 'dpo',
    });
    expect(body).toMatchObject({ splits: { train: 20, validation: 4, test: 0 }, leaked_groups: 4 });
    const all = await rows(projectId, body.id);
    expect(all[0]).toMatchObject({ split: 'train', chosen: 'good 0', rejected: 'bad 0' });
    expect(all.at(-1)).toMatchObject({ split: 'validation', chosen: 'good 3' });
  });

  it("never trains on a prompt of the project's test split", async () => {
    const projectId = await system.project({ validation_share: 0, test_share: 0.5 });
    const asked = Array.from({ length: 30 }, (_, index) => `Prompt s${index}`);
    await publishAll(system, projectId, [
      ...pairs(30, 's'),
      ...pairs(12),
      created(responseRecord('own', { prompt: 'other', group_key: 'other' })),
    ]);
    await freeze(system, projectId, { min_examples: 1 });
    const content = asked
      .map((text) =>
        JSON.stringify({
          messages: [
            { role: 'user', content: text },
            { role: 'assistant', content: 'x' },
          ],
        }),
      )
      .join('\n');
    const { body } = await freezeUpload(projectId, { training_file: await upload(projectId, content), method: 'sft' });
    const test = await system.sql<{ group_key: string }>(
      `SELECT group_key FROM datasets.group_splits WHERE project_id = $1 AND split = 'test'`,
      [projectId],
    );
    const held = new Set(test.map((row) => row.group_key));
    const all = await rows(projectId, body.id);
    expect(all.some((row) => held.has(row.group_key))).toBe(false);
    // What is held back is named, line by line, and everything else is trained on.
    const kept = new Set(all.map((row) => row.messages.at(-1)?.content));
    const missing = asked.flatMap((text, index) => (kept.has(text) ? [] : [index + 1]));
    expect(missing.length).toBeGreaterThan(0);
    expect(body.splits).toEqual({ train: asked.length - missing.length, validation: 0, test: 0 });
    expect(body.held_back).toEqual({ count: missing.length, lines: missing.slice(0, 10) });
    expect(body.leaked_groups).toBe(0);
  });

  it('refuses a file of which every prompt is in the test split', async () => {
    const projectId = await system.project({ validation_share: 0, test_share: 0.9 });
    await publishAll(system, projectId, pairs(40, 's'));
    await freeze(system, projectId, { min_examples: 1 });
    const lines = Array.from({ length: 40 }, (_, index) =>
      JSON.stringify({
        messages: [
          { role: 'user', content: `Prompt s${index}` },
          { role: 'assistant', content: 'x' },
        ],
      }),
    );
    const whole = await upload(projectId, lines.join('\n'));
    const { body } = await freezeUpload(projectId, { training_file: whole, method: 'sft' });
    const held = body.held_back!.lines.map((line) => lines[line - 1]!);
    expect(held).toHaveLength(10);

    const training = await upload(projectId, held.join('\n'));
    const refused = await freezeUpload(projectId, { training_file: training, method: 'sft' });
    expect(refused.status).toBe(400);
    expect(refused.body).toMatchObject({ code: 'datasets.file.all_held_out', errors: [{ field: 'training_file' }] });
  });

  it('keeps a prompt that was trained on out of the test split for ever', async () => {
    const projectId = await system.project({ validation_share: 0, test_share: 0.9 });
    const training = await upload(projectId, supervised(12, 'known'));
    const validation = await upload(projectId, supervised(1, 'val'));
    await freezeUpload(projectId, { training_file: training, validation_file: validation, method: 'sft' });
    const messages = [
      { role: 'system' as const, content: 'Be brief.' },
      { role: 'user' as const, content: 'known 3?' },
    ];
    // Recorded answers without a picture are grouped by a hash of what was asked.
    const groupKey = `prompt:${createHash('sha256').update('known 3?').digest('hex').slice(0, 32)}`;
    const recorded = created(responseRecord('later', { messages, prompt: 'known 3?', group_key: groupKey }));
    await publishAll(system, projectId, [recorded]);
    await freeze(system, projectId);
    const found = await system.sql<{ split: string }>(
      `SELECT g.split FROM datasets.group_splits g JOIN datasets.responses r USING (project_id, group_key)
       WHERE project_id = $1`,
      [projectId],
    );
    expect(found).toEqual([{ split: 'train' }]);
  });

  const line = (value: unknown) => JSON.stringify(value);
  const user = { role: 'user', content: 'q' };
  const good = { messages: [user, { role: 'assistant', content: 'a' }] };
  const bad: [string, string, 'sft' | 'dpo', string][] = [
    ['not JSON', '{"messages": [', 'sft', 'is not JSON'],
    ['a list', '[]', 'sft', 'expected object'],
    ['no messages', line({}), 'sft', 'messages'],
    ['an unknown role', line({ messages: [{ role: 'boss', content: 'x' }] }), 'sft', 'messages.0.role'],
    ['no answer', line({ messages: [user] }), 'sft', 'last message must be from the assistant'],
    [
      'an empty answer',
      line({ messages: [user, { role: 'assistant', content: ' ' }] }),
      'sft',
      'messages.1.content is empty',
    ],
    [
      'an empty question',
      line({ messages: [{ role: 'user', content: '' }, good.messages[1]] }),
      'sft',
      'messages.0.content is empty',
    ],
    [
      'two answers in a row',
      line({ messages: [user, good.messages[1], good.messages[1]] }),
      'sft',
      'before the answer',
    ],
    [
      'a late system message',
      line({ messages: [user, { role: 'system', content: 's' }, good.messages[1]] }),
      'sft',
      'messages.1',
    ],
    ['a weight over 1', line({ messages: [user, { role: 'assistant', content: 'a', weight: 2 }] }), 'sft', 'weight'],
    ['an unknown key', line({ ...good, extra: 1 }), 'sft', 'extra'],
    ['tools', line({ ...good, tools: [] }), 'sft', 'tools'],
    ['a NUL', '{"messages":[{"role":"user","content":"a\\u0000b"},{"role":"assistant","content":"a"}]}', 'sft', 'NUL'],
    [
      'half a surrogate pair',
      '{"messages":[{"role":"user","content":"a\\ud800"},{"role":"assistant","content":"a"}]}',
      'sft',
      'surrogate',
    ],
    ['sft lines for dpo', line(good), 'dpo', 'input'],
    [
      'no rejected answer',
      line({ input: { messages: [user] }, preferred_output: [good.messages[1]] }),
      'dpo',
      'non_preferred_output',
    ],
    [
      'equal answers',
      line({
        input: { messages: [user] },
        preferred_output: [good.messages[1]],
        non_preferred_output: [good.messages[1]],
      }),
      'dpo',
      'the same',
    ],
    ['a line without end', 'x'.repeat(MAX_LINE_BYTES + 1), 'sft', 'longer than'],
  ];
  it.each(bad)('refuses %s and names the line', async (_name, content, method, expected) => {
    const projectId = await system.project();
    const filler = method === 'sft' ? supervised(11) : preferences(11);
    const lines = filler.split('\n');
    const id = await upload(projectId, [...lines.slice(0, 3), '', content, ...lines.slice(3)].join('\n'));
    const { status, body } = await freezeUpload(projectId, { training_file: id, method });
    expect(status).toBe(400);
    expect(body.detail).toContain('Line 5: ');
    expect(body.detail).toContain(expected);
    expect(body.errors[0]?.field).toBe('training_file');
    expect(await system.sql('SELECT 1 FROM datasets.version_examples WHERE project_id = $1', [projectId])).toEqual([]);
  });

  it('names bytes that are not UTF-8, the first lines of many, and the file that is wrong', async () => {
    const projectId = await system.project();
    const latin = Buffer.concat([
      Buffer.from(`${supervised(10)}\n{"messages": "`),
      Buffer.from([0xe9]),
      Buffer.from('"}'),
    ]);
    const first = await freezeUpload(projectId, { training_file: await upload(projectId, latin), method: 'sft' });
    expect(first.body.detail).toContain('Line 11: is not UTF-8');
    const many = await freezeUpload(projectId, {
      training_file: await upload(projectId, Array.from({ length: 40 }, () => '{}').join('\n')),
      method: 'sft',
    });
    expect(many.body.detail).toMatch(/^Line 1: .*Line 10: .*and 30 more lines/s);
    const validation = await freezeUpload(projectId, {
      training_file: await upload(projectId, supervised(12)),
      validation_file: await upload(projectId, '{}'),
      method: 'sft',
    });
    expect(validation.body.errors[0]?.field).toBe('validation_file');
    const few = await freezeUpload(projectId, {
      training_file: await upload(projectId, supervised(9)),
      method: 'sft',
    });
    expect(few.body).toMatchObject({ code: 'datasets.file.too_few' });
    const missing = await freezeUpload(projectId, { training_file: `file-${newId()}`, method: 'sft' });
    expect(missing.status).toBe(404);
    expect(missing.body.errors[0]?.field).toBe('training_file');
  });

  it('reads a file with a byte order mark, Windows line ends and a large row', async () => {
    const projectId = await system.project();
    const large = { messages: [user, { role: 'assistant', content: 'y'.repeat(150_000) }] };
    const content = `\uFEFF${[...supervised(11).split('\n'), line(large)].join('\r\n')}\r\n`;
    const { body } = await freezeUpload(projectId, { training_file: await upload(projectId, content), method: 'sft' });
    expect(body.examples).toBe(12);
  });
});

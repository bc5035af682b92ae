import { randomUUID } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import OpenAI, { toFile } from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Door, until } from '../src/door.ts';
import { findPython, type Python, runPython } from '../src/python.ts';
import { type Stack, startStack } from '../src/stack.ts';

const PYTHON_SDK = '3.52.0';
const INSTALL_MS = 180_000;
const ENDED: ReadonlySet<string> = new Set(['succeeded', 'failed', 'cancelled']);
const NOUNS = ['mug', 'lamp', 'chair', 'coat', 'bowl', 'vase', 'shoe', 'table', 'clock', 'hat', 'spoon', 'jar'];
const ask = { model: 'nano', messages: [{ role: 'user' as const, content: 'Item: mug' }], max_tokens: 12 };

type Job = OpenAI.FineTuning.FineTuningJob;
type Completion = OpenAI.ChatCompletion & { tuneloop: { recorded: boolean; checkpoint_id: string | null } };

let stack: Stack;
let door: Door;
let client: OpenAI;
let python: Promise<Python | undefined>;

beforeAll(async () => {
  python = findPython('openai', PYTHON_SDK);
  stack = await startStack({ flags: ['--empty'] });
  door = new Door(stack.url, stack.apiKey);
  client = sdk();
}, INSTALL_MS);
afterAll(() => stack?.stop());

function sdk(options: ConstructorParameters<typeof OpenAI>[0] = {}): OpenAI {
  return new OpenAI({ baseURL: `${stack.url}/v1`, apiKey: stack.apiKey, maxRetries: 0, ...options });
}

/** The error that an SDK call ends with, in OpenAI's words. */
async function refusal(call: PromiseLike<unknown>): Promise<InstanceType<typeof OpenAI.APIError>> {
  try {
    await call;
  } catch (error) {
    if (error instanceof OpenAI.APIError) return error;
    throw error;
  }
  throw new Error('the call was expected to be refused');
}

function supervised(nouns: readonly string[] = NOUNS): string {
  return nouns
    .map((noun) =>
      JSON.stringify({
        messages: [
          { role: 'user', content: `Item: ${noun}` },
          { role: 'assistant', content: `A plain grey ${noun}.` },
        ],
      }),
    )
    .join('\n');
}

function preferences(): string {
  return NOUNS.map((noun) =>
    JSON.stringify({
      input: { messages: [{ role: 'user', content: `Item: ${noun}` }] },
      preferred_output: [{ role: 'assistant', content: `A plain grey ${noun}.` }],
      non_preferred_output: [{ role: 'assistant', content: `Behold a gorgeous red ${noun}!` }],
    }),
  ).join('\n');
}

async function upload(lines: string, name = 'train.jsonl'): Promise<string> {
  return (await client.files.create({ file: await toFile(Buffer.from(lines), name), purpose: 'fine-tune' })).id;
}

const ended = (id: string): Promise<Job> =>
  until(
    () => client.fineTuning.jobs.retrieve(id),
    (job) => ENDED.has(job.status),
  );

async function countJobs(): Promise<number> {
  let count = 0;
  for await (const _job of client.fineTuning.jobs.list()) count++;
  return count;
}

describe('models', () => {
  it('are listed, found, and told when asked for another', async () => {
    const list = await client.models.list();
    expect(list.data).toContainEqual({ id: 'nano', object: 'model', created: 0, owned_by: 'tuneloop' });
    expect((await client.models.retrieve('nano')).id).toBe('nano');
    const missing = await refusal(client.models.retrieve('gpt-4o-mini'));
    expect(missing).toMatchObject({ status: 404, param: 'model', code: 'model_not_found' });
    expect(missing.message).toContain('nano');
    const asked = await refusal(client.chat.completions.create({ ...ask, model: 'gpt-4o-mini' }));
    expect(asked).toMatchObject({ status: 404, param: 'model' });
    expect(asked.message).toContain('nano');
    expect(await refusal(client.models.delete('nano'))).toMatchObject({ status: 403, param: 'model' });
  });

  it('answer under the names of old when mapped', async () => {
    const name = 'gpt-4o-mini-2024-07-18';
    const mapped = await door.put(`/api/v1/model-aliases/${name}`, { target: { kind: 'base', model: 'nano' } });
    expect(mapped.status, mapped.text).toBe(200);
    const answer = await client.chat.completions.create({ ...ask, model: name });
    expect(answer.model).toBe(name);
    expect((await client.models.list()).data.map(({ id }) => id)).toContain(name);
  });
});

describe('chat completions', () => {
  it('answer whole and in pieces, the same text for the same seed', async () => {
    const whole = await client.chat.completions.create({ ...ask, seed: 7 });
    expect(whole.id).toMatch(/^chatcmpl-[0-9a-f-]{36}$/);
    expect(whole).toMatchObject({ object: 'chat.completion', model: 'nano' });
    expect(whole.choices).toHaveLength(1);
    expect(whole.choices[0]!.message).toMatchObject({ role: 'assistant' });
    const { prompt_tokens: prompt, completion_tokens: completion, total_tokens: total } = whole.usage!;
    expect(completion).toBeLessThanOrEqual(12);
    expect(total).toBe(prompt + completion);

    let text = '';
    let usage: OpenAI.CompletionUsage | null | undefined;
    let finish: string | null | undefined;
    const stream = await client.chat.completions.create({
      ...{ ...ask, seed: 7, stream: true, stream_options: { include_usage: true } },
    });
    for await (const chunk of stream) {
      expect(chunk.object).toBe('chat.completion.chunk');
      text += chunk.choices[0]?.delta.content ?? '';
      finish = chunk.choices[0]?.finish_reason ?? finish;
      usage = chunk.usage ?? usage;
    }
    expect(text).toBe(whole.choices[0]!.message.content);
    expect(finish).toBe(whole.choices[0]!.finish_reason);
    expect(usage).toMatchObject({ prompt_tokens: prompt, completion_tokens: completion });
  });

  it('give n choices, stop where told, and tell log probabilities', async () => {
    const many = await client.chat.completions.create({ ...ask, n: 3, seed: 1, logprobs: true, top_logprobs: 2 });
    expect(many.choices.map(({ index }) => index)).toEqual([0, 1, 2]);
    expect(new Set(many.choices.map(({ message }) => message.content)).size).toBeGreaterThan(1);
    for (const { logprobs, message } of many.choices) {
      const tokens = logprobs!.content!;
      expect(tokens.every(({ logprob, top_logprobs }) => logprob <= 0 && top_logprobs.length === 2)).toBe(true);
      expect(tokens.map(({ token }) => token).join('')).toContain(message.content);
    }
    const whole = await client.chat.completions.create({ ...ask, seed: 7, max_tokens: 40 });
    const text = whole.choices[0]!.message.content!;
    const stop = text.split(' ')[3]!;
    const stopped = await client.chat.completions.create({ ...ask, seed: 7, max_tokens: 40, stop: [stop] });
    expect(stopped.choices[0]!.finish_reason).toBe('stop');
    expect(stopped.choices[0]!.message.content).toBe(text.slice(0, text.indexOf(stop)));
    const short = await client.chat.completions.create({ ...ask, max_tokens: undefined!, max_completion_tokens: 2 });
    expect(short.choices[0]!.finish_reason).toBe('length');
    expect(short.usage!.completion_tokens).toBe(2);
  });

  it('are JSON of the schema asked for', async () => {
    const schema = {
      type: 'object',
      properties: {
        item: { type: 'string', minLength: 1, maxLength: 12 },
        colours: { type: 'array', items: { enum: ['red', 'green', 'blue'] }, minItems: 1, maxItems: 3 },
        price: { anyOf: [{ type: 'number', minimum: 0, exclusiveMaximum: 100 }, { type: 'null' }] },
      },
      required: ['item', 'colours', 'price'],
      additionalProperties: false,
    };
    const answer = await client.chat.completions.parse({
      ...{ ...ask, n: 3, seed: 5, max_tokens: 200 },
      response_format: { type: 'json_schema', json_schema: { name: 'product', strict: true, schema } },
    });
    expect(answer.choices.map(({ finish_reason }) => finish_reason)).toEqual(['stop', 'stop', 'stop']);
    for (const { message } of answer.choices) {
      expect(message.parsed).toEqual({
        item: expect.stringMatching(/^.{1,12}$/u),
        colours: expect.toSatisfy(
          (list: string[]) => list.length > 0 && list.every((c) => /^(red|green|blue)$/.test(c)),
        ),
        price: expect.toSatisfy((price) => price === null || (price >= 0 && price < 100)),
      });
    }
    const object = await client.chat.completions.create({
      ...{ ...ask, seed: 2, max_tokens: 200, stop: ['}'], response_format: { type: 'json_object' } },
    });
    expect(object.choices[0]!.message.content).toMatch(/^\s*\{/);
  });

  it.each<[string, Record<string, unknown>, string]>([
    ['tools', { tools: [{ type: 'function', function: { name: 'f', parameters: {} } }] }, 'tools'],
    ['a penalty', { frequency_penalty: 1 }, 'frequency_penalty'],
    [
      'a schema it cannot hold to',
      { response_format: { type: 'json_schema', json_schema: { name: 'x', schema: { not: {} } } } },
      'response_format',
    ],
    ['a word nobody knows', { temprature: 1 }, 'temprature'],
    ['too many choices', { n: 1_000 }, 'n'],
    ['a temperature above 2', { temperature: 3 }, 'temperature'],
    ['no messages', { messages: [] }, 'messages'],
    ['a message without content', { messages: [{ role: 'user' }] }, 'messages[0].content'],
    ['a role nobody has', { messages: [{ role: 'king', content: 'x' }] }, 'messages[0].role'],
    [
      'a picture',
      { messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url: 'data:,' } }] }] },
      'messages[0].content[0]',
    ],
    ['no tokens', { max_tokens: 0 }, 'max_tokens'],
    ['a NUL character', { messages: [{ role: 'user', content: 'a\u0000' }] }, 'messages[0].content'],
  ])('refuse %s by name', async (_name, fields, param) => {
    const body = { ...ask, ...fields } as OpenAI.ChatCompletionCreateParamsNonStreaming;
    const refused = await refusal(client.chat.completions.create(body));
    expect(refused).toMatchObject({ status: 400, type: 'invalid_request_error', param });
    expect(refused.message).toContain(param);
  });

  it('refuse what does not fit into the context', async () => {
    const content = 'a mug '.repeat(2_000);
    const refused = await refusal(client.chat.completions.create({ ...ask, messages: [{ role: 'user', content }] }));
    expect(refused.status).toBe(400);
  });

  it('refuse a wrong key as OpenAI does', async () => {
    const refused = await refusal(sdk({ apiKey: `tl_abcdefgh_${'a'.repeat(43)}` }).models.list());
    expect(refused).toBeInstanceOf(OpenAI.AuthenticationError);
    expect(refused.code).toBe('invalid_api_key');
  });

  it('are recorded with each choice unless store is false, and rated by their id', async () => {
    const kept = (await client.chat.completions.create({ ...ask, n: 2 })) as Completion;
    const unkept = (await client.chat.completions.create({ ...ask, store: false })) as Completion;
    expect([kept.tuneloop.recorded, unkept.tuneloop.recorded]).toEqual([true, false]);
    const rate = (completion_id: string, choice: number) =>
      door.post<{ response_id: string; score: number }>('/api/v1/feedback', {
        ...{ kind: 'thumbs', value: 'up', completion_id, choice },
      });
    const rated = await rate(kept.id, 1);
    expect(rated.status, rated.text).toBe(201);
    expect(rated.body.score).toBe(1);
    const response = await door.get<{ response_text: string }>(`/api/v1/responses/${rated.body.response_id}`);
    expect(response.body.response_text).toBe(kept.choices[1]!.message.content);
    expect((await rate(kept.id, 2)).status).toBe(404);
    expect((await rate(unkept.id, 0)).status).toBe(404);
  });
});

describe('files', () => {
  it('are kept as they were sent, listed, and gone once deleted', async () => {
    const lines = supervised();
    const made = await client.files.create({
      file: await toFile(Buffer.from(lines), 'größe.jsonl'),
      purpose: 'fine-tune',
    });
    expect(made).toMatchObject({
      ...{ object: 'file', bytes: Buffer.byteLength(lines), filename: 'größe.jsonl', purpose: 'fine-tune' },
    });
    expect(await client.files.retrieve(made.id)).toEqual(made);
    expect(await (await client.files.content(made.id)).text()).toBe(lines);
    expect((await client.files.list({ purpose: 'fine-tune' })).data).toContainEqual(made);
    expect(await client.files.delete(made.id)).toEqual({ id: made.id, object: 'file', deleted: true });
    expect((await refusal(client.files.retrieve(made.id))).status).toBe(404);
    expect((await refusal(client.files.content(made.id))).status).toBe(404);
    expect((await refusal(client.files.delete(made.id))).status).toBe(404);
  });

  it('without a file or a purpose are refused by name', async () => {
    const file = await toFile(Buffer.from(supervised()), 'a.jsonl');
    const wrong = 'nonsense' as OpenAI.FilePurpose;
    expect(await refusal(client.files.create({ file, purpose: wrong }))).toMatchObject({
      status: 400,
      param: 'purpose',
    });
    const form = new FormData();
    form.set('purpose', 'fine-tune');
    const answer = await door.send<{ error: { param: string } }>('POST', '/v1/files', { form });
    expect(answer.status).toBe(400);
    expect(answer.body.error.param).toBe('file');
  });
});

describe('fine-tuning', () => {
  it('supervised: events, metrics, a checkpoint, and a model that answers as taught at once', async () => {
    const training_file = await upload(supervised());
    const validation_file = await upload(supervised(['cup', 'plate']), 'valid.jsonl');
    const job = await client.fineTuning.jobs.create({
      ...{ model: 'nano', training_file, validation_file, suffix: 'plain', seed: 11, metadata: { for: 'test' } },
      method: {
        type: 'supervised',
        supervised: { hyperparameters: { n_epochs: 8, batch_size: 4, learning_rate_multiplier: 4 } },
      },
    });
    expect(job).toMatchObject({
      ...{ object: 'fine_tuning.job', model: 'nano', training_file, validation_file, seed: 11, fine_tuned_model: null },
      ...{ status: 'validating_files', error: null, metadata: { for: 'test' }, result_files: [] },
    });
    const done = await ended(job.id);
    expect(done, JSON.stringify(done.error)).toMatchObject({ status: 'succeeded', error: null });
    expect(done.fine_tuned_model).toMatch(/^ft:nano:sample:plain:\w+$/);
    expect(done.trained_tokens).toBeGreaterThan(100);
    expect(done.finished_at).toBeGreaterThanOrEqual(done.created_at);
    expect(done.method!.supervised!.hyperparameters).toMatchObject({ n_epochs: 8, batch_size: 4 });

    // Every line of the training file, when a validation file says what is held out: 12 lines, 4 a step, 8 times.
    const [checkpoint] = (await client.fineTuning.jobs.checkpoints.list(job.id)).data;
    expect(checkpoint).toMatchObject({
      ...{ object: 'fine_tuning.job.checkpoint', fine_tuning_job_id: job.id, step_number: 24 },
      ...{ fine_tuned_model_checkpoint: done.fine_tuned_model, metrics: { step: 24, train_loss: expect.any(Number) } },
    });
    expect(checkpoint!.metrics.full_valid_loss).toBeGreaterThan(0);

    const events: OpenAI.FineTuning.FineTuningJobEvent[] = [];
    for await (const event of client.fineTuning.jobs.listEvents(job.id, { limit: 10 })) events.push(event);
    const losses = events.filter(({ type }) => type === 'metrics').map(({ data }) => data as { train_loss: number });
    expect(losses).toHaveLength(24);
    expect(losses[0]!.train_loss).toBeLessThan(losses.at(-1)!.train_loss / 2);
    expect(events[0]!.message).toContain(done.fine_tuned_model);

    const csv = await (await client.files.content(done.result_files[0]!)).text();
    expect(csv.trim().split('\n')).toHaveLength(25);
    expect(csv).toMatch(/^step,train_loss/);

    const say = async (model: string) =>
      (await client.chat.completions.create({ ...ask, model, temperature: 0, max_tokens: 24 })).choices[0]!.message
        .content;
    const [before, after] = [await say('nano'), await say(done.fine_tuned_model!)];
    expect(before).not.toContain('plain grey');
    expect(after).toContain('plain grey');
    expect((await client.models.list()).data.map(({ id }) => id)).toContain(done.fine_tuned_model);

    expect((await client.models.delete(done.fine_tuned_model!)).deleted).toBe(true);
    expect((await refusal(client.models.retrieve(done.fine_tuned_model!))).status).toBe(404);
  });

  it('preferences: dpo with beta, on every line of the file', async () => {
    const training_file = await upload(preferences());
    const job = await client.fineTuning.jobs.create({
      ...{ model: 'nano', training_file },
      method: { type: 'dpo', dpo: { hyperparameters: { n_epochs: 2, batch_size: 4, beta: 0.3 } } },
    });
    const done = await ended(job.id);
    expect(done, JSON.stringify(done.error)).toMatchObject({ status: 'succeeded', method: { type: 'dpo' } });
    expect(done.method!.dpo!.hyperparameters!.beta).toBe(0.3);
    expect(done.fine_tuned_model).toMatch(/^ft:nano:sample:/);
    const answer = await client.chat.completions.create({ ...ask, model: done.fine_tuned_model! });
    expect(answer.choices[0]!.message.content).not.toBe('');
    // Without a validation file every line is trained on, but for those that the project tests its models on.
    const messages = (await client.fineTuning.jobs.listEvents(job.id)).data.map(({ message }) => message);
    expect(messages.join('\n')).toMatch(/12 examples to train on, 0 to validate with/);
  });

  it('goes on from a fine-tuned model, and takes the older place of hyperparameters', async () => {
    const training_file = await upload(supervised());
    const first = await ended(
      (await client.fineTuning.jobs.create({ model: 'nano', training_file, hyperparameters: { n_epochs: 1 } })).id,
    );
    expect(first.hyperparameters.n_epochs).toBe(1);
    const second = await ended(
      (
        await client.fineTuning.jobs.create({
          ...{ model: first.fine_tuned_model!, training_file, hyperparameters: { n_epochs: 1 } },
        })
      ).id,
    );
    expect(second, JSON.stringify(second.error)).toMatchObject({ status: 'succeeded', model: first.fine_tuned_model });
    expect(second.fine_tuned_model).not.toBe(first.fine_tuned_model);
  });

  it('pauses, resumes and is cancelled', async () => {
    const many = Array.from({ length: 40 }, (_, index) => NOUNS.map((noun) => `${noun} ${index}`)).flat();
    const training_file = await upload(supervised(many));
    const validation_file = await upload(supervised(['cup']), 'valid.jsonl');
    const { id } = await client.fineTuning.jobs.create({
      ...{ model: 'nano', training_file, validation_file },
      method: { type: 'supervised', supervised: { hyperparameters: { n_epochs: 50, batch_size: 4 } } },
    });
    const seen = (status: string) =>
      until(
        () => client.fineTuning.jobs.retrieve(id),
        (job) => job.status === status,
      );
    await seen('running');
    await client.fineTuning.jobs.pause(id);
    await seen('paused');
    expect(await refusal(client.fineTuning.jobs.pause(id))).toMatchObject({ status: 400 });
    await client.fineTuning.jobs.resume(id);
    await seen('running');
    await client.fineTuning.jobs.cancel(id);
    const cancelled = await seen('cancelled');
    expect(cancelled.fine_tuned_model).toBeNull();
    const again = await refusal(client.fineTuning.jobs.cancel(id));
    expect(again.status).toBe(400);
    expect(again.message).toContain('cancelled');
    expect(await refusal(client.fineTuning.jobs.resume(id))).toMatchObject({ status: 400 });
  });

  it.each<[string, string, string, RegExp]>([
    ['too few examples', supervised(NOUNS.slice(0, 9)), 'training_file', /9 examples; at least 10/],
    ['a line that is no JSON', `${supervised()}\n{oops`, 'training_file', /Line 13/],
    [
      'a line without answer',
      `{"messages":[{"role":"user","content":"x"}]}\n${supervised()}`,
      'training_file',
      /Line 1:/,
    ],
    ['preferences where conversations belong', preferences(), 'training_file', /Line 1:/],
  ])('fails for %s, and names the line', async (_name, lines, param, message) => {
    const job = await client.fineTuning.jobs.create({ model: 'nano', training_file: await upload(lines) });
    const failed = await ended(job.id);
    expect(failed).toMatchObject({ status: 'failed', fine_tuned_model: null, error: { param } });
    expect(failed.error!.message).toMatch(message);
    expect(failed.error!.code).toBe('invalid_training_file');
  });

  it('refuses at once what can be told at once', async () => {
    const training_file = await upload(supervised());
    const create = (body: object) => refusal(client.fineTuning.jobs.create({ model: 'nano', training_file, ...body }));
    expect(await create({ training_file: 'file-none' })).toMatchObject({ status: 400, param: 'training_file' });
    expect(await create({ validation_file: 'file-none' })).toMatchObject({ status: 400, param: 'validation_file' });
    const model = await create({ model: 'gpt-9' });
    expect(model).toMatchObject({ status: 404, param: 'model' });
    expect(model.message).toContain('nano');
    expect(await create({ suffix: 's'.repeat(65) })).toMatchObject({ status: 400, param: 'suffix' });
    expect(await create({ hyperparameters: { n_epochs: 0 } })).toMatchObject({
      ...{ status: 400, param: 'hyperparameters.n_epochs' },
    });
    expect(await create({ method: { type: 'magic' } })).toMatchObject({ status: 400, param: 'method.type' });
    expect((await refusal(client.fineTuning.jobs.retrieve('ftjob-none'))).status).toBe(404);
    expect((await refusal(client.fineTuning.jobs.retrieve(`ftjob-${randomUUID()}`))).status).toBe(404);
  });

  it('makes one job, however often an SDK tries again', async () => {
    const training_file = await upload(supervised());
    const hyperparameters = { n_epochs: 1 };
    const before = await countJobs();
    // The answer gets lost twice, once on the line and once behind a proxy's 500; the SDK tries again by itself.
    let lost = 0;
    const lossy = sdk({
      maxRetries: 3,
      fetch: async (url, init) => {
        const answer = await fetch(url, init);
        if (init?.method !== 'POST' || lost >= 2) return answer;
        lost++;
        await answer.text();
        if (lost === 1) throw new TypeError('the line broke');
        return new Response('{}', { status: 500 });
      },
    });
    const job = await lossy.fineTuning.jobs.create({ model: 'nano', training_file, hyperparameters });
    expect(lost).toBe(2);
    expect(await countJobs()).toBe(before + 1);

    const key = { headers: { 'Idempotency-Key': randomUUID() } };
    const body = { model: 'nano', training_file, hyperparameters, suffix: 'once' };
    const [first, second] = [
      await client.fineTuning.jobs.create(body, key),
      await client.fineTuning.jobs.create(body, key),
    ];
    expect(second.id).toBe(first.id);
    // The same wish without retry or key is another job, as with OpenAI.
    const third = await client.fineTuning.jobs.create(body);
    expect(third.id).not.toBe(first.id);
    expect(await countJobs()).toBe(before + 3);
    const other = await refusal(client.fineTuning.jobs.create({ ...body, suffix: 'other' }, key));
    expect(other.status).toBeGreaterThanOrEqual(400);
    expect(other.status).toBeLessThan(500);
    for (const { id } of [job, first, third]) expect((await ended(id)).status).toBe('succeeded');
  });
});

describe('the Python SDK', () => {
  it(
    'works with only the base URL changed',
    async (test) => {
      const found = await python;
      test.skip(!found, 'there is no python3 on this machine');
      test.skip(!found!.installed, 'the Python SDK could not be installed here');
      const script = fileURLToPath(new URL('../clients/openai_sdk.py', import.meta.url));
      const seen = await runPython<Record<string, unknown>>(found!, script, [stack.url, stack.apiKey]);
      expect(seen).toMatchObject({
        ...{ models: expect.arrayContaining(['nano']), streamed: seen.content, deleted: true },
        ...{ file: { lines: 10, purpose: 'fine-tune' }, tokens: 8 },
        missing: { param: 'model', code: 'model_not_found', message: expect.stringContaining('nano') },
        refused: { param: 'training_file', code: 'invalid_training_file' },
      });
    },
    INSTALL_MS,
  );
});

import OpenAI, { BadRequestError, NotFoundError } from 'openai';
import { eventually } from '@tuneloop/testkit/eventually';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { preferenceRows } from './peers.ts';
import { startTrainer, type TrainerTest } from './turn.ts';

let test: TrainerTest;
let projectId: string;
let client: OpenAI;
beforeAll(async () => {
  test = await startTrainer();
  projectId = await test.system.project();
  client = await clientOf(projectId);
  test.peers.files.set('file-good', { rows: preferenceRows({ train: 16, validation: 4, test: 0 }) });
  test.peers.files.set('file-partly', {
    rows: preferenceRows({ train: 16, validation: 0, test: 0 }),
    heldBack: [3, 7],
  });
  test.peers.files.set('file-bad', { error: 'line 3: messages is required' });
});
afterAll(() => test.stop());

async function clientOf(project: string): Promise<OpenAI> {
  const authorization = await test.system.authorization({ projectId: project });
  return new OpenAI({
    baseURL: `${test.system.url('trainer')}/v1`,
    apiKey: authorization.replace('Bearer ', ''),
    maxRetries: 2,
  });
}

const finished = (id: string) =>
  eventually(
    async () => {
      const job = await client.fineTuning.jobs.retrieve(id);
      expect(['succeeded', 'failed', 'cancelled']).toContain(job.status);
      return job;
    },
    { timeoutMs: 50_000 },
  );

describe('the openai SDK', () => {
  it('creates a dpo job, follows it to the end, and reads its events, checkpoints and result file', async () => {
    const created = await client.fineTuning.jobs.create({
      model: 'gpt-4o-mini',
      training_file: 'file-good',
      validation_file: 'file-good',
      suffix: 'My Brand',
      seed: 7,
      metadata: { team: 'shop' },
      integrations: [{ type: 'wandb', wandb: { project: 'p' } }],
      method: {
        type: 'dpo',
        dpo: { hyperparameters: { n_epochs: 2, batch_size: 8, beta: 0.2, learning_rate_multiplier: 0.1 } },
      },
    });
    expect(created).toMatchObject({
      object: 'fine_tuning.job',
      model: 'gpt-4o-mini',
      status: 'validating_files',
      fine_tuned_model: null,
      finished_at: null,
      trained_tokens: null,
      error: null,
      seed: 7,
      result_files: [],
      metadata: { team: 'shop' },
      training_file: 'file-good',
      method: { type: 'dpo', dpo: { hyperparameters: { n_epochs: 2, beta: 0.2 } } },
    });
    expect(created.id).toMatch(/^ftjob-[0-9a-f-]{36}$/);
    const job = await finished(created.id);
    expect(job).toMatchObject({ status: 'succeeded', error: null, result_files: ['file-result'] });
    expect(job.fine_tuned_model).toMatch(/^ft:nano:p-[0-9a-f]{8}:my-brand:[0-9a-f]{12}$/);
    expect(job.trained_tokens).toBeGreaterThan(0);
    expect(job.finished_at).toBeGreaterThanOrEqual(created.created_at);
    expect(test.peers.registered.at(-1)).toMatchObject({ filename: 'step_metrics.csv' });

    const events = [];
    for await (const event of client.fineTuning.jobs.listEvents(created.id, { limit: 3 })) events.push(event);
    const messages = events.filter((event) => event.type === 'message').map((event) => event.message);
    expect(messages.at(-1)).toBe('The job was created.');
    expect(messages[0]).toContain('New fine-tuned model created');
    expect(events.some((event) => event.level === 'warn' && event.message.includes('wandb'))).toBe(true);
    const metrics = events.filter((event) => event.type === 'metrics');
    expect(metrics.map((event) => (event.data as { step: number }).step)).toEqual([4, 3, 2, 1]);
    expect(new Set(events.map((event) => event.id)).size).toBe(events.length);

    const checkpoints = await client.fineTuning.jobs.checkpoints.list(created.id);
    expect(checkpoints.data).toMatchObject([
      {
        object: 'fine_tuning.job.checkpoint',
        fine_tuned_model_checkpoint: job.fine_tuned_model,
        fine_tuning_job_id: created.id,
        step_number: 4,
      },
    ]);
    expect(checkpoints.data[0]!.metrics.train_loss).toBeGreaterThan(0);
    expect(checkpoints.data[0]!.metrics.full_valid_loss).toBeGreaterThan(0);

    // The tuned model is a base to go on from.
    const next = await client.fineTuning.jobs.create({
      model: job.fine_tuned_model!,
      training_file: 'file-good',
      hyperparameters: { n_epochs: 1, batch_size: 16 },
    });
    expect(next.method?.type).toBe('supervised');
    expect(next.hyperparameters).toMatchObject({ n_epochs: 1, learning_rate_multiplier: 'auto' });
    expect(await finished(next.id)).toMatchObject({
      status: 'succeeded',
      hyperparameters: { learning_rate_multiplier: 1 },
    });

    const page = await client.fineTuning.jobs.list({ limit: 1 });
    expect(page.data.map((row) => row.id)).toEqual([next.id]);
    expect(page.has_more).toBe(true);
    const all = [];
    for await (const row of client.fineTuning.jobs.list({ limit: 1 })) all.push(row.id);
    expect(all).toEqual([next.id, created.id]);
    const tagged = await client.fineTuning.jobs.list({ metadata: { team: 'shop' } });
    expect(tagged.data.map((row) => row.id)).toEqual([created.id]);
  });

  it('names the lines that were held back, and trains without anything to validate with', async () => {
    const created = await client.fineTuning.jobs.create({
      model: 'nano',
      training_file: 'file-partly',
      method: { type: 'dpo', dpo: { hyperparameters: { n_epochs: 1, batch_size: 16 } } },
    });
    expect(await finished(created.id)).toMatchObject({ status: 'succeeded', error: null });
    const { data } = await client.fineTuning.jobs.listEvents(created.id, { limit: 50 });
    const warned = data.filter((event) => event.level === 'warn').map((event) => event.message);
    expect(warned).toEqual([
      'Lines 3, 7 of the training file were held back: this project tests its models on those prompts and never trains on them.',
    ]);
    expect(data.map((event) => event.message).join('\n')).toContain('16 examples to train on, 0 to validate with');
  });

  it('reports what is wrong in a file as the failed job’s error, naming the line', async () => {
    const created = await client.fineTuning.jobs.create({ model: 'nano', training_file: 'file-bad' });
    const job = await finished(created.id);
    expect(job).toMatchObject({
      status: 'failed',
      fine_tuned_model: null,
      error: { code: 'invalid_training_file', message: 'line 3: messages is required', param: 'training_file' },
    });
  });

  it('cancels, and refuses what cannot be done with a 400 that is not retried', async () => {
    const created = await client.fineTuning.jobs.create({
      model: 'nano',
      training_file: 'file-good',
      method: { type: 'dpo', dpo: { hyperparameters: { n_epochs: 50, batch_size: 1 } } },
    });
    await eventually(async () => {
      expect((await client.fineTuning.jobs.retrieve(created.id)).status).toBe('running');
    });
    expect((await client.fineTuning.jobs.pause(created.id)).status).toBe('paused');
    await expect(client.fineTuning.jobs.pause(created.id)).rejects.toThrow(BadRequestError);
    expect((await client.fineTuning.jobs.resume(created.id)).status).toBe('queued');
    const cancelled = await client.fineTuning.jobs.cancel(created.id);
    expect(cancelled).toMatchObject({ status: 'cancelled', fine_tuned_model: null });
    await expect(client.fineTuning.jobs.cancel(created.id)).rejects.toThrow(BadRequestError);
  });

  it('never doubles a job when the SDK tries again after a lost answer', async () => {
    const other = await test.system.project();
    const body = JSON.stringify({ model: 'nano', training_file: 'file-bad', seed: 1 });
    const send = async (retries: number) => {
      const answer = await fetch(`${test.system.url('trainer')}/v1/fine_tuning/jobs`, {
        method: 'POST',
        headers: {
          authorization: await test.system.authorization({ projectId: other }),
          'content-type': 'application/json',
          'x-stainless-retry-count': String(retries),
        },
        body,
      });
      return ((await answer.json()) as { id: string }).id;
    };
    const first = await send(0);
    expect(await send(1)).toBe(first);
    expect(await send(2)).toBe(first);
    // The same request made anew is another job.
    expect(await send(0)).not.toBe(first);
  });

  it.each([
    ['an unknown model', { model: 'gpt-9' }, 404, 'model_not_found', 'model'],
    ['a file that is not there', { training_file: 'file-none' }, 400, 'invalid_training_file', 'training_file'],
    ['a suffix that is too long', { suffix: 'x'.repeat(65) }, 400, 'request.invalid', 'suffix'],
    ['reinforcement', { method: { type: 'reinforcement' } }, 400, 'unsupported_method', 'method.type'],
    ['a bad batch size', { hyperparameters: { batch_size: 0 } }, 400, 'request.invalid', 'hyperparameters.batch_size'],
    [
      'too much metadata',
      { metadata: Object.fromEntries(Array.from({ length: 17 }, (_, i) => [`k${i}`, 'v'])) },
      400,
      'request.invalid',
      'metadata',
    ],
  ])('refuses %s in OpenAI’s shape', async (_what, change, status, code, param) => {
    const answer = await fetch(`${test.system.url('trainer')}/v1/fine_tuning/jobs`, {
      method: 'POST',
      headers: { authorization: await test.system.authorization({ projectId }), 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'nano', training_file: 'file-good', ...change }),
    });
    expect(answer.status).toBe(status);
    expect(await answer.json()).toMatchObject({
      error: { type: 'invalid_request_error', code, param, message: expect.any(String) as string },
    });
  });

  it('does not know jobs of other projects, nor ids of another form', async () => {
    const created = await client.fineTuning.jobs.create({ model: 'nano', training_file: 'file-bad' });
    const stranger = await clientOf(await test.system.project());
    await expect(stranger.fineTuning.jobs.retrieve(created.id)).rejects.toThrow(NotFoundError);
    await expect(client.fineTuning.jobs.retrieve('ftjob-nope')).rejects.toThrow('Could not find fine tune');
  });
});

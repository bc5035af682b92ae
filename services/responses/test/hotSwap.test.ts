import { rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { deploymentChanged, checkpointCreated } from '@tuneloop/contracts/trainer/events';
import { putModelAlias } from '@tuneloop/contracts/responses/http';
import { findResponseByCompletion, generate, serveModelReady } from '@tuneloop/contracts/responses/internal';
import { openBlobStore } from '@tuneloop/runtime/blobs/open';
import type { BlobStore } from '@tuneloop/runtime/blobs/blobStore';
import { newId } from '@tuneloop/runtime/ids';
import { createLog } from '@tuneloop/runtime/log';
import { eventually } from '@tuneloop/testkit/eventually';
import { freePort } from '@tuneloop/testkit/freePort';
import { startTestService, TEST_SECRET, type TestSystem } from '@tuneloop/testkit/service';
import type { ModelConfig } from '@tuneloop/engine/types';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ServeChild, spawnServe } from '../src/serve/child.ts';
import { responsesService } from '../src/service.ts';
import { makeLora, makeTinyModel, storeAdapter } from './tinyModel.ts';

type Completion = OpenAI.ChatCompletion & {
  tuneloop: { recorded: boolean; model: string; checkpoint_id: string | null; slot: string };
};

let serve: ServeChild;
let system: TestSystem;
let blobs: BlobStore;
let model: { folder: string; config: ModelConfig };
let trainer: Server;
/** What the trainer would tell a responses service that starts late, by path. */
const trainerAnswers = new Map<string, unknown>();
let trainerAsked = 0;

const messages = [{ role: 'user' as const, content: 'Item: mug' }];

beforeAll(async () => {
  model = await makeTinyModel();
  const trainerPort = await freePort();
  trainer = createServer((request, response) => {
    trainerAsked++;
    const answer = trainerAnswers.get(request.url ?? '');
    response.writeHead(answer === undefined ? 404 : 200, { 'content-type': 'application/json' });
    response.end(JSON.stringify(answer ?? { code: 'trainer.not_found', detail: 'There is none.' }));
  });
  await new Promise<void>((resolve) => trainer.listen(trainerPort, '127.0.0.1', resolve));
  const servePort = await freePort();
  system = await startTestService(responsesService, {
    env: {
      SERVE_URL: `http://127.0.0.1:${servePort}`,
      SERVICE_URLS: JSON.stringify({ trainer: `http://127.0.0.1:${trainerPort}` }),
    },
    logLevel: 'fatal',
  });
  const blobEnv = { BLOB_STORE: 'local', BLOB_DIR: system.env.BLOB_DIR };
  blobs = openBlobStore(blobEnv, 'trainer');
  serve = await spawnServe({
    env: {
      ...process.env,
      ...blobEnv,
      PORT: String(servePort),
      TUNELOOP_SECRET: TEST_SECRET,
      SERVE_MODELS: `nano=${model.folder}`,
      SERVE_THREADS: '1',
      LOG_LEVEL: 'fatal',
    },
    log: createLog({ level: 'silent' }),
  });
});
afterAll(async () => {
  await system.stop();
  await serve.stop();
  await new Promise((resolve) => trainer.close(resolve));
  await rm(model.folder, { recursive: true, force: true });
});

async function sdk(projectId: string): Promise<OpenAI> {
  const token = (await system.authorization({ projectId })).replace('Bearer ', '');
  return new OpenAI({ baseURL: `${system.url('responses')}/v1`, apiKey: token, maxRetries: 0 });
}

async function ask(
  client: OpenAI,
  change: Partial<OpenAI.ChatCompletionCreateParamsNonStreaming> = {},
): Promise<Completion> {
  const answer = await client.chat.completions.create({
    model: 'nano',
    messages,
    temperature: 0,
    max_tokens: 12,
    ...change,
  });
  return answer as Completion;
}
const textOf = (answer: OpenAI.ChatCompletion): string | null | undefined => answer.choices[0]?.message.content;

interface Target {
  checkpoint_id: string | null;
  base_model: string;
  storage_key: string | null;
  weight: number;
}
const base: Target = { checkpoint_id: null, base_model: 'nano', storage_key: null, weight: 1 };

async function makeCheckpoint(
  projectId: string,
  seed: number,
): Promise<Target & { checkpoint_id: string; storage_key: string }> {
  const storage_key = await storeAdapter(blobs, projectId, makeLora(model.config, seed));
  return { checkpoint_id: newId(), base_model: 'nano', storage_key, weight: 1 };
}

function deployment(slot: string, version: number, targets: Target[]) {
  return { slot, version, targets, changed_by: 'gate', changed_at: new Date().toISOString() };
}
const deploy = (projectId: string, version: number, targets: Target[], slot = 'default', id?: string) =>
  system.publish(
    deploymentChanged,
    projectId,
    { subject: newId(), data: deployment(slot, version, targets) },
    id === undefined ? {} : { id },
  );

describe('a deployment', () => {
  it('switches answers under load; none fails, each is wholly of one checkpoint', async () => {
    const projectId = await system.project();
    const client = await sdk(projectId);
    const checkpoints = [await makeCheckpoint(projectId, 1), await makeCheckpoint(projectId, 2)];
    const expected = new Map<string, string | null | undefined>();
    expected.set('nano', textOf(await ask(client, { model: 'nano:base' })));
    for (const checkpoint of checkpoints) {
      const [item] = (
        await system.call<{ items: { choices: { text: string }[] }[] }>(
          generate,
          {
            body: {
              target: {
                base_model: 'nano',
                checkpoint_id: checkpoint.checkpoint_id,
                storage_key: checkpoint.storage_key,
              },
              items: [{ key: 'k', messages }],
              temperature: 0,
              max_tokens: 12,
              purpose: 'evaluation',
            },
          },
          { projectId },
        )
      ).body.items;
      expected.set(`nano:ckpt-${checkpoint.checkpoint_id}`, item?.choices[0]?.text);
    }
    expect(new Set(expected.values()).size).toBe(3);

    const served: string[] = [];
    let running = true;
    const streamed = async (): Promise<void> => {
      const stream = await client.chat.completions.create({
        model: 'nano',
        messages,
        temperature: 0,
        max_tokens: 12,
        stream: true,
      });
      let text = '';
      let weights = '';
      for await (const chunk of stream as AsyncIterable<
        OpenAI.ChatCompletionChunk & { tuneloop?: Completion['tuneloop'] }
      >) {
        text += chunk.choices[0]?.delta.content ?? '';
        weights = chunk.tuneloop?.model ?? weights;
      }
      expect(text).toBe(expected.get(weights));
      served.push(weights);
    };
    const whole = async (): Promise<void> => {
      const answer = await ask(client);
      expect(textOf(answer)).toBe(expected.get(answer.tuneloop.model));
      served.push(answer.tuneloop.model);
    };
    const workers = [whole, whole, streamed, streamed].map(async (one) => {
      while (running) await one();
    });
    const sides = [checkpoints[0]!, checkpoints[1]!, base, checkpoints[0]!];
    for (const [i, side] of sides.entries()) {
      await deploy(projectId, i + 1, [side]);
      const name = side.checkpoint_id === null ? 'nano' : `nano:ckpt-${side.checkpoint_id}`;
      const before = served.length;
      await eventually(() => served.slice(before).includes(name));
    }
    running = false;
    await Promise.all(workers);
    expect(served.length).toBeGreaterThan(8);
    const last = await ask(client);
    expect(last.tuneloop.checkpoint_id).toBe(checkpoints[0]?.checkpoint_id);
    const record = await system.call(findResponseByCompletion, { query: { completion_id: last.id } }, { projectId });
    expect(record.body).toMatchObject({
      checkpoint_id: checkpoints[0]?.checkpoint_id,
      model_id: `nano:ckpt-${checkpoints[0]?.checkpoint_id}`,
      response_text: textOf(last),
    });
  });

  it('keeps the highest version, whatever comes late or twice', async () => {
    const projectId = await system.project();
    const client = await sdk(projectId);
    const newer = await makeCheckpoint(projectId, 5);
    const older = await makeCheckpoint(projectId, 6);
    const id = await deploy(projectId, 7, [newer]);
    await eventually(async () => expect((await ask(client)).tuneloop.checkpoint_id).toBe(newer.checkpoint_id));
    await deploy(projectId, 6, [older]);
    await deploy(projectId, 7, [newer], 'default', id);
    await deploy(projectId, 1, [base], 'marker');
    await eventually(async () => expect((await ask(client, { model: 'marker' })).tuneloop.slot).toBe('marker'));
    expect((await ask(client)).tuneloop.checkpoint_id).toBe(newer.checkpoint_id);
  });

  it('splits users by weight, each always on the same side', async () => {
    const projectId = await system.project();
    const client = await sdk(projectId);
    const side = await makeCheckpoint(projectId, 8);
    await deploy(projectId, 1, [
      { ...base, weight: 0.7 },
      { ...side, weight: 0.3 },
    ]);
    await eventually(async () => {
      const rows = await system.sql('SELECT 1 FROM responses.deployments WHERE project_id = $1', [projectId]);
      expect(rows).toHaveLength(1);
    });
    const sideOf = async (user: string): Promise<string> => (await ask(client, { user, max_tokens: 1 })).tuneloop.model;
    const users = Array.from({ length: 60 }, (_, i) => `user-${i}`);
    const first = await Promise.all(users.map(sideOf));
    expect(await Promise.all(users.map(sideOf))).toEqual(first);
    const share = first.filter((name) => name !== 'nano').length / users.length;
    expect(share).toBeGreaterThan(0.1);
    expect(share).toBeLessThan(0.55);
  });

  it('is asked of the trainer once by a service that has not seen its event', async () => {
    const projectId = await system.project();
    const client = await sdk(projectId);
    const checkpoint = await makeCheckpoint(projectId, 9);
    trainerAnswers.set('/internal/trainer/deployments', { data: [deployment('default', 3, [checkpoint])] });
    const before = trainerAsked;
    expect((await ask(client)).tuneloop.checkpoint_id).toBe(checkpoint.checkpoint_id);
    expect((await ask(client)).tuneloop.checkpoint_id).toBe(checkpoint.checkpoint_id);
    expect(trainerAsked).toBe(before + 1);
    trainerAnswers.delete('/internal/trainer/deployments');
  });

  it('can be loaded before it is switched to, and a broken artefact is refused', async () => {
    const projectId = await system.project();
    const checkpoint = await makeCheckpoint(projectId, 10);
    const { weight: _weight, ...target } = checkpoint;
    const ready = await system.call(serveModelReady, { body: { target } }, { projectId });
    expect(ready).toMatchObject({ status: 200, body: { ready: true, model: `nano:ckpt-${checkpoint.checkpoint_id}` } });
    const broken = {
      ...target,
      checkpoint_id: newId(),
      storage_key: (await blobs.put(projectId, Buffer.from('{}'))).key,
    };
    expect((await system.call(serveModelReady, { body: { target: broken } }, { projectId })).status).toBe(422);
    const nowhere = { ...target, checkpoint_id: newId(), storage_key: `trainer/${projectId}/aa/${'a'.repeat(64)}` };
    expect((await system.call(serveModelReady, { body: { target: nowhere } }, { projectId })).status).toBe(404);
  });
});

describe('fine-tuned names', () => {
  it('answer when their checkpoint is told of, are found when it is not yet, and end when deleted', async () => {
    const projectId = await system.project();
    const client = await sdk(projectId);
    const told = await makeCheckpoint(projectId, 11);
    const untold = await makeCheckpoint(projectId, 12);
    const event = (checkpoint: typeof told, model_name: string) => ({
      checkpoint_id: checkpoint.checkpoint_id,
      job_id: null,
      base_model: 'nano',
      storage_key: checkpoint.storage_key,
      sha256: 'a'.repeat(64),
      step: 1,
      epoch: 1,
      model_name,
    });
    const names = [`ft:nano:test:a:${newId()}`, `ft:nano:test:b:${newId()}`] as const;
    await system.publish(checkpointCreated, projectId, { subject: told.checkpoint_id, data: event(told, names[0]) });
    const listed = async (): Promise<string[]> => (await client.models.list()).data.map((entry) => entry.id);
    await eventually(async () => expect(await listed()).toContain(names[0]));
    trainerAnswers.set(
      `/internal/trainer/models?${new URLSearchParams({ model_name: names[1] }).toString()}`,
      event(untold, names[1]),
    );
    for (const [name, checkpoint] of [
      [names[0], told],
      [names[1], untold],
    ] as const) {
      const answer = await ask(client, { model: name });
      expect(answer.model).toBe(name);
      expect(answer.tuneloop.checkpoint_id).toBe(checkpoint.checkpoint_id);
      expect(textOf(await ask(client, { model: `nano:ckpt-${checkpoint.checkpoint_id}` }))).toBe(textOf(answer));
    }
    await system.call(
      putModelAlias,
      { params: { alias: 'gpt-4o' }, body: { target: { kind: 'checkpoint', checkpoint_id: told.checkpoint_id } } },
      { projectId },
    );
    expect((await ask(client, { model: 'gpt-4o' })).tuneloop.checkpoint_id).toBe(told.checkpoint_id);

    await deploy(projectId, 1, [told], 'brand');
    await eventually(async () => expect(await listed()).toContain('brand'));
    await expect(client.models.delete(names[0])).rejects.toMatchObject({ status: 409 });
    expect(await client.models.delete(names[1])).toMatchObject({ id: names[1], deleted: true });
    await expect(ask(client, { model: names[1] })).rejects.toMatchObject({ status: 404, code: 'model_not_found' });
    await expect(client.models.delete('nano')).rejects.toMatchObject({ status: 403 });
    await expect(client.models.delete('ft:nano:test::none')).rejects.toMatchObject({ status: 404 });
    await expect(ask(client, { model: `nano:ckpt-${newId()}` })).rejects.toMatchObject({ status: 404 });
  });

  it("never answer for another project's", async () => {
    const [mine, other] = [await system.project(), await system.project()];
    const checkpoint = await makeCheckpoint(mine, 13);
    const stolen = { checkpoint_id: checkpoint.checkpoint_id, base_model: 'nano', storage_key: checkpoint.storage_key };
    const answer = await system.call(serveModelReady, { body: { target: stolen } }, { projectId: other });
    expect(answer.status).toBe(422);
  });
});

describe('the local engine behind /v1', () => {
  it('records one response per choice', async () => {
    const projectId = await system.project({ default_user_id: 'house' });
    const client = await sdk(projectId);
    const answer = await ask(client, { n: 3, temperature: 1, seed: 4, logprobs: true });
    expect(answer.choices).toHaveLength(3);
    expect(answer.choices[0]?.logprobs?.content?.length).toBeGreaterThan(0);
    for (const choice of answer.choices) {
      const record = await system.call(
        findResponseByCompletion,
        { query: { completion_id: answer.id, choice: choice.index } },
        { projectId },
      );
      expect(record.body).toMatchObject({
        response_text: choice.message.content,
        user_id: 'house',
        choice: choice.index,
      });
    }
  });

  it.each([
    [{ tools: [{ type: 'function', function: { name: 'f' } }] }, 'tools'],
    [{ logit_bias: { 5: 1 } }, 'logit_bias'],
    [{ reasoning_effort: 'low' }, 'reasoning_effort'],
  ] as const)('refuses %j by name', async (change, param) => {
    const projectId = await system.project();
    const client = await sdk(projectId);
    const failed = await ask(client, change as object).then(
      () => undefined,
      (error: unknown) => error,
    );
    expect(failed).toMatchObject({ status: 400, param, code: 'unsupported_parameter' });
  });
});

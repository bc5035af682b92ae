import { initLora } from '@tuneloop/engine/adapters/lora';
import { encodePeftAdapter } from '@tuneloop/engine/adapters/peft';
import {
  activateCheckpoint,
  createRftCheckpoint,
  deleteRftCheckpoint,
  getDeployment,
  listRftCheckpoints,
  updateDeployment,
  updateRftCheckpoint,
} from '@tuneloop/contracts/trainer/http';
import { newId } from '@tuneloop/runtime/ids';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readBaseConfig } from '../src/baseModels.ts';
import { startTrainer, type TrainerTest } from './turn.ts';

interface Record_ {
  id: string;
  version: string;
  is_active: boolean;
  metadata: Record<string, unknown>;
}
interface Body {
  success: boolean;
  error?: string;
  message?: string;
  data: Record_;
}
interface List {
  success: boolean;
  data: Record_[];
  count: number;
  stats: Record<string, unknown>;
}

let test: TrainerTest;
beforeAll(async () => {
  test = await startTrainer();
});
afterAll(() => test.stop());

const post = (projectId: string, body: object) =>
  test.system.call<Body>(
    createRftCheckpoint,
    { body: { version: 'v1', storage_key: 'models/v1', epoch: 1, avg_reward: 0.4, is_active: false, ...body } },
    { projectId },
  );
const put = (projectId: string, id: string, body: object) =>
  test.system.call<Body>(updateRftCheckpoint, { query: { id }, body }, { projectId });
const list = (projectId: string, query: Record<string, string | number | boolean> = {}) =>
  test.system.call<List>(listRftCheckpoints, { query }, { projectId });
const remove = (projectId: string, id: string) =>
  test.system.call<Body>(deleteRftCheckpoint, { query: { id } }, { projectId });

describe('rft-checkpoints', () => {
  it('records, lists newest first with statistics, and keeps one active', async () => {
    const projectId = await test.system.project();
    const first = await post(projectId, { version: 'v1', epoch: 1, avg_reward: 0.4, is_active: true });
    expect(first.status).toBe(200);
    expect(first.body).toMatchObject({ success: true, data: { version: 'v1', is_active: true } });
    const second = await post(projectId, { version: 'v2', epoch: 3, avg_reward: 0.6 });
    const { body } = await list(projectId);
    expect(body.data.map((row) => row.version)).toEqual(['v2', 'v1']);
    expect(body).toMatchObject({
      success: true,
      count: 2,
      stats: {
        total_checkpoints: 2,
        active_checkpoints: 1,
        latest_epoch: 3,
        best_avg_reward: 0.6,
        versions: ['v1', 'v2'],
      },
    });
    await put(projectId, second.body.data.id, { is_active: true });
    const active = await list(projectId, { active_only: true });
    expect(active.body.data.map((row) => row.version)).toEqual(['v2']);
    const paged = await list(projectId, { limit: 1, offset: 1 });
    expect(paged.body.data.map((row) => row.version)).toEqual(['v1']);
    expect(paged.body.count).toBe(2);
    expect((await list(projectId, { version: 'v1' })).body.count).toBe(1);
  });

  it('deletes what is not active, and refuses the active one with 400', async () => {
    const projectId = await test.system.project();
    const one = (await post(projectId, { is_active: true })).body.data.id;
    const other = (await post(projectId, { version: 'v2' })).body.data.id;
    const refused = await remove(projectId, one);
    expect(refused.status).toBe(400);
    expect(refused.body).toEqual({ success: false, error: expect.stringContaining('active') as string });
    const deleted = await remove(projectId, other);
    expect(deleted.body).toMatchObject({ success: true, message: expect.stringContaining(other) as string });
    expect((await remove(projectId, other)).status).toBe(404);
  });

  it.each([
    ['no version', { version: undefined }, 'version'],
    ['an empty storage key', { storage_key: '' }, 'storage_key'],
    ['an epoch that is no number', { epoch: 'three' }, 'epoch'],
    ['a negative epoch', { epoch: -1 }, 'epoch'],
    ['is_active as a text', { is_active: 'yes' }, 'is_active'],
    ['a reward that is no number', { avg_reward: 'high' }, 'avg_reward'],
  ])('answers a post with %s by 400 naming the field', async (_what, change, field) => {
    const projectId = await test.system.project();
    const answer = await post(projectId, change);
    expect(answer.status).toBe(400);
    expect(answer.body).toEqual({ success: false, error: expect.stringContaining(field) as string });
    expect((await list(projectId)).body.count).toBe(0);
  });

  it('answers a bad or unknown id by 400 or 404, and an empty change by 400', async () => {
    const projectId = await test.system.project();
    expect((await put(projectId, 'not-a-uuid', { epoch: 2 })).status).toBe(400);
    expect((await put(projectId, newId(), { epoch: 2 })).status).toBe(404);
    expect((await remove(projectId, newId())).status).toBe(404);
    const { id } = (await post(projectId, {})).body.data;
    expect((await put(projectId, id, {})).status).toBe(400);
    const theirs = await test.system.project();
    expect((await put(theirs, id, { epoch: 2 })).status).toBe(404);
    expect((await list(theirs)).body.count).toBe(0);
  });
});

describe('a posted checkpoint that is made active', () => {
  const served = async (projectId: string) => {
    const { body } = await test.system.call<{ version: number; targets: { checkpoint_id: string | null }[] }>(
      getDeployment,
      { params: { slot: 'default' } },
      { projectId },
    );
    return body;
  };

  it('is a record only: nothing is served from a key that is not in the store', async () => {
    const projectId = await test.system.project();
    const { data } = (await post(projectId, { is_active: true })).body;
    expect(data).toMatchObject({ is_active: true, metadata: { serves: false } });
    expect(await served(projectId)).toMatchObject({ version: 0, targets: [{ checkpoint_id: null }] });
    const asked = await test.system.call(
      activateCheckpoint,
      { params: { id: data.id }, body: { reason: 'try' } },
      { projectId },
    );
    expect(asked.status).toBe(409);
  });

  it('serves when its artefact is there, verified, and the slot allows it', async () => {
    const { system, peers } = test;
    const projectId = await system.project();
    const key = await storeAdapter(projectId, 'q_proj');
    const before = await post(projectId, { storage_key: key, is_active: true });
    expect(before.body.data.metadata.serves).toBe(false);
    await system.call(
      updateDeployment,
      { params: { slot: 'default' }, body: { allow_posted_checkpoints: true } },
      { projectId },
    );
    const { id } = before.body.data;
    const after = await put(projectId, id, { is_active: true });
    expect(after.body.data).toMatchObject({ is_active: true, metadata: { serves: true } });
    expect(peers.calls).toContain(`preload ${id}`);
    expect(await served(projectId)).toMatchObject({ version: 1, targets: [{ checkpoint_id: id }] });
    // Made inactive, it no longer serves.
    await put(projectId, id, { is_active: false });
    expect(await served(projectId)).toMatchObject({ version: 2, targets: [{ checkpoint_id: null }] });
  });

  it.each([
    ['another model’s shapes', 'wrong-shape', 'q_proj'],
    ['no manifest', 'not-json', 'not JSON'],
    ['another project’s key', 'foreign', 'not one of this project'],
  ])('does not serve an artefact with %s, and says so', async (_what, kind, why) => {
    const { system } = test;
    const projectId = await system.project();
    const blobs = system.services.get('trainer')!.ctx.blobs;
    await system.call(
      updateDeployment,
      { params: { slot: 'default' }, body: { allow_posted_checkpoints: true } },
      { projectId },
    );
    const key =
      kind === 'foreign'
        ? await storeAdapter(await system.project(), 'q_proj')
        : kind === 'not-json'
          ? (await blobs.put(projectId, Buffer.from('hello'))).key
          : await storeAdapter(projectId, 'q_proj', 48);
    const { data } = (await post(projectId, { storage_key: key, is_active: true })).body;
    expect(data.metadata).toMatchObject({ serves: false, why: expect.stringContaining(why) as string });
    expect(await served(projectId)).toMatchObject({ version: 0 });
  });

  /** An adapter of the tiny base, or of one with another width. */
  async function storeAdapter(projectId: string, target: 'q_proj', hiddenSize?: number): Promise<string> {
    const { env, services } = test.system;
    const blobs = services.get('trainer')!.ctx.blobs;
    const own = await readBaseConfig(env.BASE_MODELS!.replace('nano=', ''));
    const config = hiddenSize === undefined ? own : { ...own, hiddenSize };
    const peft = encodePeftAdapter(initLora(config, { r: 2, alpha: 4, targets: [target], dropout: 0 }, 1), 'nano');
    const files = {
      'adapter_config.json': await blobs.put(projectId, peft.config),
      'adapter_model.safetensors': await blobs.put(projectId, peft.weights),
    };
    const manifest = Buffer.from(JSON.stringify({ format: 'peft', base_model: 'nano', files }));
    return (await blobs.put(projectId, manifest)).key;
  }
});

import {
  activateCheckpoint,
  type Checkpoint,
  createTrainingJob,
  type Deployment,
  type Evaluation,
  getEvaluation,
  getPromotionDecision,
  listDeployments,
  listEvaluations,
  listPromotionDecisions,
  listTrainingJobs,
  type PromotionDecision,
  rollbackDeployment,
  type TrainingJob,
} from '@tuneloop/contracts/trainer/http';
import { getCheckpointInternal } from '@tuneloop/contracts/trainer/internal';
import { newId } from '@tuneloop/runtime/ids';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { preferenceRows } from './peers.ts';
import { jobById, startTrainer, type TrainerTest } from './turn.ts';

interface Page<T> {
  data: T[];
}

let test: TrainerTest;
beforeAll(async () => {
  test = await startTrainer();
});
afterAll(() => test.stop());

const QUICK = { n_epochs: 1, batch_size: 8, learning_rate: 1e-3 };

async function train(projectId: string, body: object, headers: Record<string, string> = {}): Promise<TrainingJob> {
  const made = await test.system.call<TrainingJob>(createTrainingJob, { body }, { projectId, headers });
  expect(made.status).toBe(201);
  return made.body;
}

const completed = (projectId: string, id: string) =>
  jobById(test.system, projectId, id, (job) => expect(job.status).toBe('completed'));

describe('jobs on a dataset version', () => {
  it('trains sft, then dpo from its adapter; either may be made to serve and rolled back', async () => {
    const { system, peers } = test;
    const projectId = await system.project();
    const as = { projectId };
    const version = peers.addVersion(preferenceRows({ train: 16, validation: 4, test: 4 }));
    const shared = { dataset_version_id: version.dataset_version_id, hyperparameters: QUICK, seed: 3, evaluate: false };
    const first = await completed(projectId, (await train(projectId, { ...shared, method: 'sft' })).id);
    expect(first).toMatchObject({ source: 'direct', base_model: 'nano', correlation_id: first.id });
    expect(first.settings).toMatchObject({ hyper: { lossDivisor: 'constant', epochs: 1, learningRate: 1e-3 } });
    const from = first.checkpoint_id!;
    const second = await completed(
      projectId,
      (await train(projectId, { ...shared, method: 'dpo', start_from: from, reference: from })).id,
    );
    const internal = await system.call<{ checkpoint_id: string; job_id: string }>(
      getCheckpointInternal,
      { params: { id: second.checkpoint_id! } },
      as,
    );
    expect(internal.body).toMatchObject({ job_id: second.id, base_model: 'nano' });
    const activate = (id: string) =>
      system.call<Checkpoint>(activateCheckpoint, { params: { id }, body: { reason: 'by hand' } }, as);
    expect((await activate(from)).body).toMatchObject({ id: from, is_active: true, version: 'v1' });
    const active = await activate(second.checkpoint_id!);
    expect(active.body).toMatchObject({
      is_active: true,
      version: 'v2',
      lineage: { start_from: from, reference: from },
    });
    const back = async () =>
      (await system.call<Deployment>(rollbackDeployment, { params: { slot: 'default' }, body: {} }, as)).body;
    expect(await back()).toMatchObject({ version: 3, restores: 1, targets: [{ checkpoint_id: from }] });
    expect(await back()).toMatchObject({ version: 4, restores: 0, targets: [{ checkpoint_id: null }] });
    const { body } = await system.call<Page<Deployment>>(listDeployments, {}, as);
    expect(body.data).toMatchObject([{ slot: 'default', version: 4, changed_by: 'user:test' }]);
    const rows = await system.sql<{ id: string }>(
      'SELECT id FROM trainer.checkpoints WHERE project_id = $1 AND is_active',
      [projectId],
    );
    expect(rows).toEqual([]);
  });

  it('evaluates on request and shows evaluation and decision by id; a reader of another project sees neither', async () => {
    const { system, peers } = test;
    const projectId = await system.project();
    const version = peers.addVersion(preferenceRows({ train: 8, validation: 0, test: 1 }));
    const job = await train(projectId, {
      dataset_version_id: version.dataset_version_id,
      method: 'dpo',
      hyperparameters: QUICK,
    });
    await completed(projectId, job.id);
    const evaluations = await system.call<Page<Evaluation>>(listEvaluations, {}, { projectId });
    const { id } = evaluations.body.data[0]!;
    const one = await system.call<Evaluation>(getEvaluation, { params: { id } }, { projectId });
    // One test prompt: values, and no interval to speak of.
    expect(one.body.after?.freshReward).toMatchObject({ low: null, high: null, n: 1 });
    const decisions = await system.call<Page<PromotionDecision>>(listPromotionDecisions, {}, { projectId });
    const decision = decisions.body.data[0]!;
    const again = await system.call<PromotionDecision>(
      getPromotionDecision,
      { params: { id: decision.id } },
      { projectId },
    );
    expect(again.body).toEqual(decision);
    const stranger = { projectId: await system.project() };
    expect((await system.call(getEvaluation, { params: { id } }, stranger)).status).toBe(404);
    expect((await system.call(getPromotionDecision, { params: { id: decision.id } }, stranger)).status).toBe(404);
    expect((await system.call<Page<TrainingJob>>(listTrainingJobs, {}, stranger)).body.data).toEqual([]);
  });

  it('answers a repeated Idempotency-Key with the first job', async () => {
    const projectId = await test.system.project();
    const version = test.peers.addVersion(preferenceRows({ train: 2, validation: 0, test: 0 }));
    const body = { dataset_version_id: version.dataset_version_id, method: 'dpo', evaluate: false };
    const key = { 'idempotency-key': newId() };
    const first = await train(projectId, body, key);
    expect((await train(projectId, body, key)).id).toBe(first.id);
  });

  it('fails with the reason when nothing can be trained on', async () => {
    const { system, peers } = test;
    const projectId = await system.project();
    const long = preferenceRows({ train: 3, validation: 0, test: 0 }).map((row) => ({
      ...row,
      chosen: 'word '.repeat(400),
    }));
    const cases: [ReturnType<typeof preferenceRows>, string][] = [
      [preferenceRows({ train: 0, validation: 0, test: 2 }), 'trainer.dataset.empty'],
      [long, 'trainer.dataset.empty'],
      [preferenceRows({ train: 2 }).map((row) => ({ ...row, rejected: null })), 'trainer.dataset.no_rejected'],
    ];
    for (const [rows, code] of cases) {
      const version = peers.addVersion(rows);
      const job = await train(projectId, { dataset_version_id: version.dataset_version_id, method: 'dpo' });
      const failed = await jobById(system, projectId, job.id, (seen) => expect(seen.status).toBe('failed'));
      expect(failed.error?.code).toBe(code);
    }
  });

  it.each([
    ['a method of other backends', { method: 'kto' }, 400, 'method'],
    ['a version that is not a uuid', { dataset_version_id: 'x' }, 400, 'dataset_version_id'],
    ['no epochs', { hyperparameters: { n_epochs: 0 } }, 400, 'hyperparameters.n_epochs'],
    ['a seed below zero', { seed: -1 }, 400, 'seed'],
    ['a slot with spaces', { slot: 'my slot' }, 400, 'slot'],
    ['a base that is not here', { base_model: 'gpt-5' }, 404, 'model'],
    ['a start that is not there', { start_from: 'nowhere' }, 404, 'start_from'],
    ['a reference of its own', { reference: newId() }, 400, 'reference'],
  ])('refuses %s naming the field', async (_what, change, status, field) => {
    const projectId = await test.system.project();
    const version = test.peers.addVersion(preferenceRows({ train: 2, validation: 0, test: 0 }));
    const answer = await test.system.call<{ errors: { field: string }[] }>(
      createTrainingJob,
      { body: { dataset_version_id: version.dataset_version_id, method: 'dpo', ...change } },
      { projectId },
    );
    expect(answer.status).toBe(status);
    expect(answer.body.errors[0]?.field).toBe(field);
  });

  it('refuses a version that is not there, and callers without the scope', async () => {
    const projectId = await test.system.project();
    const body = { dataset_version_id: newId(), method: 'dpo' };
    expect((await test.system.call(createTrainingJob, { body }, { projectId })).status).toBe(404);
    expect((await test.system.call(createTrainingJob, { body }, { projectId, scopes: ['read'] })).status).toBe(403);
  });
});

import { createHash } from 'node:crypto';
import { datasetInsufficient, datasetFailed, datasetReady } from '@tuneloop/contracts/datasets/events';
import { trainingRequested } from '@tuneloop/contracts/scheduler/events';
import {
  type Checkpoint,
  type Deployment,
  downloadCheckpointFile,
  downloadEvaluationSamples,
  type Evaluation,
  getCheckpoint,
  getDeployment,
  listCheckpoints,
  listDeploymentHistory,
  getEvaluation,
  getPromotionDecision,
  listEvaluations,
  listPromotionDecisions,
  listTrainingMetrics,
  overridePromotionDecision,
  type PromotionDecision,
  rollbackDeployment,
} from '@tuneloop/contracts/trainer/http';
import { findModelInternal, listDeploymentsInternal } from '@tuneloop/contracts/trainer/internal';
import { adapterManifest } from '@tuneloop/contracts/responses/serve';
import { newId } from '@tuneloop/runtime/ids';
import { eventually } from '@tuneloop/testkit/eventually';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { preferenceRows } from './peers.ts';
import { jobOf, published, readyEvent, requestEvent, startTrainer, type TrainerTest } from './turn.ts';

interface Page<T> {
  data: T[];
}

let test: TrainerTest;
beforeAll(async () => {
  test = await startTrainer();
});
afterAll(() => test.stop());

describe('one turn of the loop', () => {
  it('trains, evaluates, promotes and deploys by events alone, under one correlation id', async () => {
    const { system, peers } = test;
    const projectId = await system.project();
    const as = { projectId };
    const requestId = newId();
    const request = requestEvent(requestId);
    const version = peers.addVersion(preferenceRows());
    const requestEventId = await system.publish(trainingRequested, projectId, request);
    await jobOf(system, projectId, requestId, (job) => expect(job.status).toBe('waiting_for_dataset'));
    const readyId = await system.publish(datasetReady, projectId, readyEvent(requestId, version));
    const job = await jobOf(system, projectId, requestId, (seen) => expect(seen.status).toBe('completed'));
    expect(job).toMatchObject({ method: 'dpo', seed: 11, correlation_id: request.correlationId, error: null });
    expect(job.result).toMatchObject({ steps: 5, examples: 40, skipped_too_long: 0 });
    expect(job.progress?.percent).toBe(100);

    const { body: checkpoint } = await system.call<Checkpoint>(
      getCheckpoint,
      { params: { id: job.checkpoint_id! } },
      as,
    );
    expect(checkpoint).toMatchObject({
      is_active: true,
      origin: 'trained',
      base_model: 'nano',
      step: 5,
      lineage: { job_id: job.id, request_id: requestId, dataset_version_id: version.dataset_version_id },
      manifest: { seed: 11, dataset_hash: version.content_hash, method: 'dpo' },
    });
    expect(checkpoint.model_name).toMatch(/^ft:nano:p-[0-9a-f]{8}:default:[0-9a-f]{12}$/);
    expect(checkpoint.manifest).toHaveProperty('ortVersion');
    expect(checkpoint.manifest).toHaveProperty('base_model_sha256');
    expect(checkpoint.avg_reward).toBeGreaterThan(0);

    // The artefact is what its manifest says, and the files are what a PEFT folder holds.
    const blobs = system.services.get('trainer')!.ctx.blobs;
    const manifest = adapterManifest.parse(JSON.parse((await blobs.bytes(checkpoint.storage_key)).toString()));
    const weights = await fetch(
      new URL(`/api/v1/checkpoints/${checkpoint.id}/files/adapter_model.safetensors`, system.url('trainer')),
      { headers: { authorization: await system.authorization(as) } },
    );
    const bytes = Buffer.from(await weights.arrayBuffer());
    expect(createHash('sha256').update(bytes).digest('hex')).toBe(manifest.files['adapter_model.safetensors']!.sha256);
    const config = await system.call<string | { peft_type: string }>(
      downloadCheckpointFile,
      { params: { id: checkpoint.id, name: 'adapter_config.json' } },
      as,
    );
    expect(JSON.stringify(config.body)).toContain('LORA');

    const curve = await system.call<Page<{ step: number; loss: number }>>(
      listTrainingMetrics,
      { params: { id: job.id } },
      as,
    );
    expect(curve.body.data.map((entry) => entry.step)).toEqual([1, 2, 3, 4, 5]);
    expect(curve.body.data[0]!.loss).toBe(job.result!.first_loss);

    const { body: evaluations } = await system.call<Page<Evaluation>>(
      listEvaluations,
      { query: { job_id: job.id } },
      as,
    );
    const evaluation = evaluations.data[0]!;
    expect(evaluation).toMatchObject({
      status: 'completed',
      incumbent: { checkpoint_id: null, base_model: 'nano' },
      judge: { kind: 'scripted' },
    });
    const names = ['freshReward', 'winRate', 'preferenceAccuracy', 'wrongAttributes', 'words', 'perplexity'];
    expect(Object.keys(evaluation.before!)).toEqual(expect.arrayContaining(names));
    expect(Object.keys(evaluation.after!)).toEqual(expect.arrayContaining(names));
    const { freshReward, winRate } = evaluation.after!;
    expect(freshReward!.n).toBe(110);
    expect(winRate!.low).toBeGreaterThan(0.5);
    expect(evaluation.difference!.freshReward!.low).toBeGreaterThan(0);
    const samples = await system.call<string>(downloadEvaluationSamples, { params: { id: evaluation.id } }, as);
    expect(samples.body.trim().split('\n')).toHaveLength(110);

    const byId = await system.call<Evaluation>(getEvaluation, { params: { id: evaluation.id } }, as);
    expect(byId.body).toEqual(evaluation);
    const stranger = { projectId: newId() };
    expect((await system.call(getEvaluation, { params: { id: evaluation.id } }, stranger)).status).toBe(404);

    const { body: decisions } = await system.call<Page<PromotionDecision>>(
      listPromotionDecisions,
      { query: { job_id: job.id } },
      as,
    );
    expect(decisions.data).toHaveLength(1);
    const one = { params: { id: decisions.data[0]!.id } };
    expect((await system.call(getPromotionDecision, one, as)).body).toEqual(decisions.data[0]);
    expect((await system.call(getPromotionDecision, one, stranger)).status).toBe(404);
    expect(decisions.data[0]).toMatchObject({ decision: 'promoted', decided_by: 'gate' });
    expect(decisions.data[0]!.numbers).toMatchObject({
      evaluator: 'scripted reviewer',
      primary: { passed: true, n: 110 },
      guards: [{ held: true, n: 12 }],
      spending: { expectedDecisions: 4, decisionIndex: 1 },
    });
    const deployed = await system.call<{ data: unknown[] }>(listDeploymentsInternal, {}, as);
    expect(deployed.body.data).toMatchObject([
      {
        slot: 'default',
        version: 1,
        targets: [{ checkpoint_id: checkpoint.id, storage_key: checkpoint.storage_key, weight: 1 }],
      },
    ]);
    const named = await system.call<{ checkpoint_id: string }>(
      findModelInternal,
      { query: { model_name: checkpoint.model_name! } },
      as,
    );
    expect(named.body.checkpoint_id).toBe(checkpoint.id);
    // Loaded before the switch.
    expect(peers.calls).toContain(`preload ${checkpoint.id}`);

    const events = await published(system, projectId);
    expect(events.map((event) => event.type).filter((type) => type !== 'training.progressed')).toEqual([
      'training.started',
      'checkpoint.created',
      'training.completed',
      'evaluation.completed',
      'promotion.decided',
      'deployment.changed',
    ]);
    expect(new Set(events.map((event) => event.correlation))).toEqual(new Set([request.correlationId]));

    // Copies of the events change nothing.
    await system.publish(trainingRequested, projectId, request, { id: requestEventId });
    await system.publish(datasetReady, projectId, readyEvent(requestId, version), { id: readyId });
    await system.publish(trainingRequested, projectId, request);
    const other = newId();
    await system.publish(trainingRequested, projectId, requestEvent(other));
    await jobOf(system, projectId, other);
    const again = await jobOf(system, projectId, requestId);
    expect(again).toEqual(job);
    const { body: all } = await system.call<Page<Checkpoint>>(listCheckpoints, {}, as);
    expect(all.data).toHaveLength(1);
  });

  it('takes a dataset that was ready before the request came', async () => {
    const { system, peers } = test;
    const projectId = await system.project();
    const requestId = newId();
    const version = peers.addVersion(preferenceRows({ train: 8, test: 3 }));
    await system.publish(datasetReady, projectId, readyEvent(requestId, version));
    await eventually(async () => {
      const rows = await system.sql('SELECT 1 FROM trainer.early_datasets WHERE request_id = $1', [requestId]);
      expect(rows).toHaveLength(1);
    });
    await system.publish(trainingRequested, projectId, requestEvent(requestId));
    const job = await jobOf(system, projectId, requestId, (seen) => expect(seen.status).toBe('completed'));
    // Three test groups are not enough to promote anything, and the gate says so.
    const { body } = await system.call<Page<PromotionDecision>>(
      listPromotionDecisions,
      { query: { job_id: job.id } },
      { projectId },
    );
    expect(body.data[0]).toMatchObject({ decision: 'kept', numbers: { keptBecause: 'not-enough-evidence' } });
    const deployment = await system.call<Deployment>(getDeployment, { params: { slot: 'default' } }, { projectId });
    expect(deployment.body).toMatchObject({ version: 0, targets: [{ checkpoint_id: null, base_model: 'nano' }] });
  });

  it('closes the job when the dataset is too small or failed', async () => {
    const { system } = test;
    const projectId = await system.project();
    const [small, broken] = [newId(), newId()];
    await system.publish(trainingRequested, projectId, requestEvent(small));
    await system.publish(trainingRequested, projectId, requestEvent(broken));
    await system.publish(datasetInsufficient, projectId, {
      subject: small,
      data: { request_id: small, examples: 3, needed: 10, reason: 'few pairs' },
    });
    await system.publish(datasetFailed, projectId, {
      subject: broken,
      data: { request_id: broken, code: 'datasets.leak', reason: 'leakage' },
    });
    await jobOf(system, projectId, small, (job) =>
      expect(job).toMatchObject({ status: 'cancelled', error: { code: 'dataset.insufficient' } }),
    );
    await jobOf(system, projectId, broken, (job) =>
      expect(job).toMatchObject({ status: 'failed', error: { code: 'datasets.leak' } }),
    );
    // The scheduler closes the small one without action; only the other is a failure.
    const events = await published(system, projectId);
    expect(events.map((event) => [event.type, event.body.request_id])).toEqual([['training.failed', broken]]);
  });

  it.each([
    ['a base that is not here', { base_model: 'gpt-5' }, 'trainer.model.not_found'],
    ['a method of other backends', { method: 'grpo' as const }, 'trainer.method.unsupported'],
    ['a start that is not there', { start_from: 'ft:nano:x:y:z' }, 'trainer.start_from.not_found'],
  ])('fails a request for %s at once, saying why', async (_what, change, code) => {
    const { system } = test;
    const projectId = await system.project();
    const requestId = newId();
    await system.publish(trainingRequested, projectId, requestEvent(requestId, change));
    const job = await jobOf(system, projectId, requestId, (seen) => expect(seen.status).toBe('failed'));
    expect(job.error?.code).toBe(code);
    const events = await published(system, projectId);
    expect(events.map((event) => event.type)).toEqual(['training.failed']);
  });

  it('keeps what serves when the candidate is worse; a person may override, once, and roll back', async () => {
    const { system, peers } = test;
    const projectId = await system.project();
    const as = { projectId };
    const requestId = newId();
    peers.likesTuned = false;
    try {
      await system.publish(trainingRequested, projectId, requestEvent(requestId));
      const version = peers.addVersion(preferenceRows());
      // A judge's service that is away for a moment is only a delay.
      peers.failGenerations = 1;
      await system.publish(datasetReady, projectId, readyEvent(requestId, version));
      await jobOf(system, projectId, requestId, (seen) => expect(seen.status).toBe('completed'));
    } finally {
      peers.likesTuned = true;
    }
    const { body } = await system.call<Page<PromotionDecision>>(listPromotionDecisions, {}, as);
    const decision = body.data[0]!;
    expect(decision).toMatchObject({ decision: 'kept', numbers: { keptBecause: 'no-clear-gain' } });
    const refused = await system.call(
      overridePromotionDecision,
      { params: { id: decision.id }, body: { reason: ' ' } },
      as,
    );
    expect(refused.status).toBe(400);
    const override = { params: { id: decision.id }, body: { reason: 'the brand wants it' } };
    const overridden = await system.call<PromotionDecision>(overridePromotionDecision, override, as);
    expect(overridden.body).toMatchObject({
      decision: 'promoted',
      decided_by: 'user:test',
      numbers: { override: { person: 'user:test', reason: 'the brand wants it', overruled: 'kept' } },
    });
    expect((await system.call(overridePromotionDecision, override, as)).status).toBe(409);
    const rolledBack = await system.call<Deployment>(rollbackDeployment, { params: { slot: 'default' }, body: {} }, as);
    expect(rolledBack.body).toMatchObject({ version: 2, targets: [{ checkpoint_id: null }], restores: 0 });
    expect((await system.call(rollbackDeployment, { params: { slot: 'default' }, body: {} }, as)).status).toBe(409);
    const history = await system.call<Page<Deployment>>(listDeploymentHistory, { params: { slot: 'default' } }, as);
    expect(history.body.data.map((entry) => entry.version)).toEqual([2, 1]);
  });
});

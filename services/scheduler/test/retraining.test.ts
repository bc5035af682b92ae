import { datasetFailed, datasetInsufficient, datasetReady } from '@tuneloop/contracts/datasets/events';
import {
  cancelRetrainingRequest,
  createRetrainingRequest,
  getRetrainingRequest,
  getRetrainingRun,
  getSchedule,
  listRetrainingRuns,
  type RetrainingRun,
  updateSchedule,
} from '@tuneloop/contracts/scheduler/http';
import { promotionDecided, trainingCompleted, trainingFailed } from '@tuneloop/contracts/trainer/events';
import { newId } from '@tuneloop/runtime/ids';
import { eventually } from '@tuneloop/testkit/eventually';
import { startTestService, type TestSystem } from '@tuneloop/testkit/service';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { schedulerService } from '../src/service.ts';

interface Page<T> {
  data: T[];
}
interface RequestBody {
  id: string;
  status: string;
  retraining_run_id: string | null;
}

let now = new Date('2026-03-01T12:00:00Z');
let system: TestSystem;
beforeAll(async () => {
  system = await startTestService(schedulerService, { clock: () => now });
});
afterAll(() => system.stop());

async function request(
  projectId: string,
  body: object = {},
  headers: Record<string, string> = {},
): Promise<RequestBody> {
  const answer = await system.call<RequestBody>(
    createRetrainingRequest,
    { body: { reason: 'more feedback', ...body } },
    { projectId, headers },
  );
  expect(answer.status).toBe(201);
  return answer.body;
}

async function runOf(
  projectId: string,
  requestId: string,
  check: (run: RetrainingRun) => void,
): Promise<RetrainingRun> {
  return eventually(async () => {
    const { body } = await system.call<Page<RetrainingRun>>(listRetrainingRuns, {}, { projectId });
    const run = body.data.find((candidate) => candidate.request_id === requestId);
    if (!run) throw new Error('the run has not started');
    check(run);
    return run;
  });
}

function ready(requestId: string) {
  const id = newId();
  return {
    subject: id,
    data: {
      request_id: requestId,
      dataset_id: id,
      dataset_version_id: id,
      kind: 'dpo' as const,
      content_hash: 'abc',
      examples: 40,
      splits: { train: 30, validation: 5, test: 5 },
      test_groups: 5,
      test_fingerprint: 'f',
    },
  };
}

describe('one turn', () => {
  it('goes from request to decision by events, whichever comes first, once', async () => {
    const projectId = await system.project();
    const made = await request(projectId);
    await runOf(projectId, made.id, (run) => expect(run.stage).toBe('dataset'));
    const jobId = newId();
    const checkpointId = newId();
    // The trainer's word overtakes the dataset's.
    await system.publish(trainingCompleted, projectId, {
      subject: jobId,
      data: {
        job_id: jobId,
        request_id: made.id,
        checkpoint_id: checkpointId,
        steps: 3,
        first_loss: 1,
        last_loss: 0.5,
        tokens_per_second: 10,
        peak_memory_mb: 1,
      },
    });
    await runOf(projectId, made.id, (run) => expect(run.stage).toBe('evaluation'));
    const eventId = await system.publish(datasetReady, projectId, ready(made.id));
    await runOf(projectId, made.id, (run) => expect(run).toMatchObject({ stage: 'evaluation', dataset_size: 40 }));
    await system.publish(datasetReady, projectId, ready(made.id), { id: eventId });
    await system.publish(promotionDecided, projectId, {
      subject: jobId,
      data: {
        decision_id: newId(),
        job_id: jobId,
        request_id: made.id,
        slot: 'default',
        checkpoint_id: checkpointId,
        decision: 'promoted',
        reason: 'better',
        decided_by: 'gate',
      },
    });
    await runOf(projectId, made.id, (run) =>
      expect(run).toMatchObject({ status: 'completed', outcome: 'promoted', checkpoint_id: checkpointId }),
    );
    const after = await system.call<RequestBody>(getRetrainingRequest, { params: { id: made.id } }, { projectId });
    expect(after.body.status).toBe('completed');
  });

  it('ends without action when there is too little data, and failed with the cause when training fails', async () => {
    const projectId = await system.project();
    const first = await request(projectId);
    await runOf(projectId, first.id, () => undefined);
    await system.publish(datasetInsufficient, projectId, {
      subject: first.id,
      data: { request_id: first.id, examples: 3, needed: 10, reason: 'only 3 pairs' },
    });
    await runOf(projectId, first.id, (run) => expect(run).toMatchObject({ status: 'completed', outcome: 'no_action' }));
    const second = await request(projectId);
    await runOf(projectId, second.id, () => undefined);
    await system.publish(trainingFailed, projectId, {
      subject: second.id,
      data: { job_id: newId(), request_id: second.id, code: 'x', reason: 'out of memory' },
    });
    await runOf(projectId, second.id, (run) =>
      expect(run).toMatchObject({ status: 'failed', error_message: 'Training failed: out of memory' }),
    );
    const third = await request(projectId);
    const { id } = await runOf(projectId, third.id, () => undefined);
    await system.publish(datasetFailed, projectId, {
      subject: third.id,
      data: { request_id: third.id, code: 'x', reason: 'the blob store is full' },
    });
    const failed = await runOf(projectId, third.id, (run) => expect(run.status).toBe('failed'));
    expect(failed.error_message).toBe('The dataset could not be built: the blob store is full');
    expect((await system.call(getRetrainingRun, { params: { id } }, { projectId })).body).toEqual(failed);
    expect((await system.call(getRetrainingRun, { params: { id } }, { projectId: newId() })).status).toBe(404);
  });

  it('runs one at a time in a slot, high priority first', async () => {
    const projectId = await system.project();
    const first = await request(projectId);
    await runOf(projectId, first.id, () => undefined);
    const low = await request(projectId, { priority: 'low' });
    const high = await request(projectId, { priority: 'high' });
    const end = (id: string) =>
      system.publish(datasetInsufficient, projectId, {
        subject: id,
        data: { request_id: id, examples: 0, needed: 10, reason: 'none' },
      });
    await end(first.id);
    await runOf(projectId, high.id, (run) => expect(run.status).toBe('pending'));
    const waiting = await system.call<RequestBody>(getRetrainingRequest, { params: { id: low.id } }, { projectId });
    expect(waiting.body.status).toBe('pending');
    await end(high.id);
    await runOf(projectId, low.id, (run) => expect(run.status).toBe('pending'));
  });

  it('fails a run at its deadline, naming what it waited for', async () => {
    const projectId = await system.project();
    const made = await request(projectId);
    await runOf(projectId, made.id, () => undefined);
    now = new Date(now.getTime() + 31 * 60_000);
    const run = await runOf(projectId, made.id, (r) => expect(r.status).toBe('failed'));
    expect(run.error_message).toContain('the dataset to be frozen');
  });
});

describe('requests', () => {
  it('answers a repeated Idempotency-Key with the first request', async () => {
    const projectId = await system.project();
    const key = { 'idempotency-key': newId() };
    const first = await request(projectId, {}, key);
    const second = await request(projectId, {}, key);
    expect(second.id).toBe(first.id);
  });

  it('cancels a pending request and refuses one that runs', async () => {
    const projectId = await system.project();
    const running = await request(projectId);
    await runOf(projectId, running.id, () => undefined);
    const pending = await request(projectId);
    const cancelled = await system.call(cancelRetrainingRequest, { params: { id: pending.id } }, { projectId });
    expect(cancelled.status).toBe(200);
    const refused = await system.call(cancelRetrainingRequest, { params: { id: running.id } }, { projectId });
    expect(refused.status).toBe(409);
  });

  it.each([
    [{ reason: '' }, 'reason'],
    [{ reason: 'x', priority: 'urgent' }, 'priority'],
    [{ reason: 'x', slot: 'Not A Slot' }, 'slot'],
    [{ reason: 'x', hyperparameters: { n_epochs: 0 } }, 'hyperparameters.n_epochs'],
  ])('refuses %j naming the field', async (body, field) => {
    const projectId = await system.project();
    const answer = await system.call<{ errors: { field: string }[] }>(createRetrainingRequest, { body }, { projectId });
    expect(answer.status).toBe(400);
    expect(answer.body.errors.map((error) => error.field).join(' ')).toContain(field);
  });

  it("does not show another project's request", async () => {
    const mine = await system.project();
    const theirs = await system.project();
    const made = await request(theirs);
    const answer = await system.call(getRetrainingRequest, { params: { id: made.id } }, { projectId: mine });
    expect(answer.status).toBe(404);
  });
});

describe('schedule', () => {
  it('fires a missed tick once and shows the next', async () => {
    const projectId = await system.project();
    const set = await system.call<{ next_run_at: string }>(
      updateSchedule,
      { body: { cron: '0 2 * * *', time_zone: 'Europe/Berlin' } },
      { projectId },
    );
    expect(set.status).toBe(200);
    now = new Date(now.getTime() + 5 * 24 * 3_600_000);
    const rows = await eventually(async () => {
      const found = await system.sql<{ source: string }>(
        'SELECT source FROM scheduler.retraining_requests WHERE project_id = $1',
        [projectId],
      );
      if (found.length === 0) throw new Error('no tick yet');
      return found;
    });
    expect(rows).toEqual([{ source: 'auto_daily' }]);
    const after = await system.call<{ next_run_at: string }>(getSchedule, {}, { projectId });
    expect(new Date(after.body.next_run_at).getTime()).toBeGreaterThan(now.getTime());
  });

  it.each([
    [{ cron: 'every day' }, 'cron'],
    [{ cron: '0 2 * * *', time_zone: 'Mars/Olympus' }, 'time_zone'],
  ])('refuses %j naming the field', async (body, field) => {
    const projectId = await system.project();
    const answer = await system.call<{ errors: { field: string }[] }>(updateSchedule, { body }, { projectId });
    expect(answer.status).toBe(400);
    expect(answer.body.errors[0]?.field).toBe(field);
  });
});

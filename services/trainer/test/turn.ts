import { trainingRequested } from '@tuneloop/contracts/scheduler/events';
import { datasetReady } from '@tuneloop/contracts/datasets/events';
import type { EventData } from '@tuneloop/contracts/event';
import { getTrainingJob, listTrainingJobs, type TrainingJob } from '@tuneloop/contracts/trainer/http';
import { newId } from '@tuneloop/runtime/ids';
import { eventually } from '@tuneloop/testkit/eventually';
import { startTestService, type TestSystem } from '@tuneloop/testkit/service';
import type { z } from 'zod';
import { trainerService } from '../src/service.ts';
import { type Peers, startPeers } from './peers.ts';
import { makeTinyModel } from './tinyModel.ts';

const JOB_TIMEOUT_MS = 50_000;

export interface TrainerTest {
  readonly system: TestSystem;
  readonly peers: Peers;
  stop(): Promise<void>;
}

/** The trainer with a tiny base `nano` and its peers. States are saved at every other step. */
export async function startTrainer(env: Record<string, string> = {}): Promise<TrainerTest> {
  const peers = await startPeers();
  const system = await startTestService(trainerService, {
    env: {
      SERVICE_URLS: peers.serviceUrls,
      BASE_MODELS: `nano=${await makeTinyModel()}`,
      STATE_EVERY_STEPS: '2',
      STATE_MIN_SECONDS: '0',
      EVALUATION_SAMPLES: '2',
      EVALUATION_ROUNDS: '1',
      ...env,
    },
  });
  return {
    system,
    peers,
    stop: async () => {
      await system.stop();
      await peers.close();
    },
  };
}

type Request = z.input<typeof trainingRequested.schema>;

export function requestEvent(requestId: string, change: Partial<Request> = {}) {
  const runId = newId();
  return {
    subject: runId,
    correlationId: runId,
    data: {
      request_id: requestId,
      run_id: runId,
      source: 'manual' as const,
      priority: 'normal' as const,
      slot: 'default',
      method: 'dpo' as const,
      base_model: 'nano',
      seed: 11,
      hyperparameters: { n_epochs: 1, batch_size: 8, learning_rate: 1e-4 },
      dataset: {},
      requested_by: 'user:test',
      ...change,
    },
  };
}

export function readyEvent(requestId: string, version: EventData<typeof datasetReady>) {
  return { subject: version.dataset_version_id, data: { ...version, request_id: requestId } };
}

/** The job of a request, once it satisfies the check. */
export async function jobOf(
  system: TestSystem,
  projectId: string,
  requestId: string,
  check: (job: TrainingJob) => void = () => undefined,
): Promise<TrainingJob> {
  return eventually(
    async () => {
      const { body } = await system.call<{ data: TrainingJob[] }>(
        listTrainingJobs,
        { query: { request_id: requestId } },
        { projectId },
      );
      const job = body.data[0];
      if (!job) throw new Error('there is no job yet');
      check(job);
      return job;
    },
    { timeoutMs: JOB_TIMEOUT_MS },
  );
}

export async function jobById(
  system: TestSystem,
  projectId: string,
  id: string,
  check: (job: TrainingJob) => void,
): Promise<TrainingJob> {
  return eventually(
    async () => {
      const { body } = await system.call<TrainingJob>(getTrainingJob, { params: { id } }, { projectId });
      check(body);
      return body;
    },
    { timeoutMs: JOB_TIMEOUT_MS },
  );
}

interface OutboxLine {
  readonly type: string;
  readonly correlation: string | null;
  readonly body: Record<string, unknown>;
}

/** What the trainer published for one turn, in order. */
export async function published(system: TestSystem, projectId: string): Promise<OutboxLine[]> {
  return system.sql<OutboxLine>(
    `SELECT replace(headers->>'ce-type', 'tuneloop.', '') AS type, headers->>'ce-correlationid' AS correlation, body
     FROM trainer.outbox WHERE project_id = $1 ORDER BY seq`,
    [projectId],
  );
}

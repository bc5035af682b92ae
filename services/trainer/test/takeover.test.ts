import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { datasetReady } from '@tuneloop/contracts/datasets/events';
import { trainingRequested } from '@tuneloop/contracts/scheduler/events';
import {
  cancelTrainingJob,
  type Checkpoint,
  getCheckpoint,
  pauseTrainingJob,
  resumeTrainingJob,
  type TrainingJob,
} from '@tuneloop/contracts/trainer/http';
import { newId } from '@tuneloop/runtime/ids';
import { eventually } from '@tuneloop/testkit/eventually';
import { freePort } from '@tuneloop/testkit/freePort';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ExampleRow } from '@tuneloop/contracts/datasets/internal';
import { LEASE_MS, POLL_MS } from '../src/jobs/trainingPool.ts';
import { preferenceRows } from './peers.ts';
import { jobById, jobOf, published, readyEvent, requestEvent, startTrainer, type TrainerTest } from './turn.ts';

const MAIN = fileURLToPath(new URL('../src/main.ts', import.meta.url));
/** Long enough to be killed in the middle: some 75 steps. */
const LONG = { n_epochs: 3, batch_size: 4, learning_rate: 1e-3 };

let test: TrainerTest;
let rows: ExampleRow[];
beforeAll(async () => {
  test = await startTrainer({ STATE_EVERY_STEPS: '4' });
  rows = preferenceRows({ train: 100, validation: 2, test: 2 });
});
afterAll(() => test.stop());

/** Worker processes of a service process, by their parent. */
async function workersOf(parent: number): Promise<number[]> {
  const found: number[] = [];
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const stat = await readFile(`/proc/${name}/stat`, 'utf8').catch(() => '');
    const command = await readFile(`/proc/${name}/cmdline`, 'utf8').catch(() => '');
    const ppid = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
    if (ppid === parent && command.includes('trainer/src/worker/main.ts')) found.push(Number(name));
  }
  return found;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

async function begin(): Promise<{ projectId: string; requestId: string }> {
  const { system, peers } = test;
  const projectId = await system.project();
  const requestId = newId();
  await system.publish(trainingRequested, projectId, requestEvent(requestId, { seed: 5, hyperparameters: LONG }));
  await system.publish(datasetReady, projectId, readyEvent(requestId, peers.addVersion(rows)));
  return { projectId, requestId };
}

/** SHA-256 of the trained weights' artefact: equal when and only when the bytes are. */
async function artefactOf(projectId: string, job: TrainingJob): Promise<string> {
  const { body } = await test.system.call<Checkpoint>(
    getCheckpoint,
    { params: { id: job.checkpoint_id! } },
    { projectId },
  );
  const blobs = test.system.services.get('trainer')!.ctx.blobs;
  const manifest = JSON.parse((await blobs.bytes(body.storage_key)).toString()) as {
    files: Record<string, { sha256: string }>;
  };
  return manifest.files['adapter_model.safetensors']!.sha256;
}

/** The job once it has a saved state and is not near its end. */
async function midway(projectId: string, requestId: string): Promise<TrainingJob> {
  const job = await jobOf(test.system, projectId, requestId, (seen) => expect(seen.status).toBe('training'));
  await eventually(async () => {
    const [row] = await test.system.sql<{ state_step: number | null }>(
      'SELECT state_step FROM trainer.training_jobs WHERE id = $1',
      [job.id],
    );
    expect(row?.state_step ?? 0).toBeGreaterThanOrEqual(4);
  });
  return job;
}

/** Of a run that nobody disturbed. */
let reference: string;
beforeAll(async () => {
  const { projectId, requestId } = await begin();
  const job = await jobOf(test.system, projectId, requestId, (seen) => expect(seen.status).toBe('completed'));
  reference = await artefactOf(projectId, job);
});

describe('a job whose worker or holder dies', () => {
  it('goes on from its last state after a SIGKILL of the worker and ends with the same bytes', async () => {
    const { projectId, requestId } = await begin();
    await midway(projectId, requestId);
    const [worker] = await workersOf(process.pid);
    process.kill(worker!, 'SIGKILL');
    const job = await jobOf(test.system, projectId, requestId, (seen) => expect(seen.status).toBe('completed'));
    expect(await artefactOf(projectId, job)).toBe(reference);
    const starts = (await published(test.system, projectId)).filter((event) => event.type === 'training.started');
    expect(starts.map((event) => event.body.resumed_from_step === null)).toEqual([true, false]);
    expect(starts[1]!.body.epoch).toBe(2);
    // Nothing of the run is left lying about.
    const [row] = await test.system.sql<{ state_key: string | null; lease_until: Date | null }>(
      'SELECT state_key, lease_until FROM trainer.training_jobs WHERE id = $1',
      [job.id],
    );
    expect(row).toEqual({ state_key: null, lease_until: null });
  });

  it('is taken over after a SIGKILL of the service, whose worker ends with it', async () => {
    const { system } = test;
    // A lease renewed just before the kill, and a look just before its end: still under 15 s.
    expect(LEASE_MS + 2 * POLL_MS).toBeLessThan(15_000);
    await system.services.get('trainer')!.stop();
    const holder = await spawnTrainer();
    const { projectId, requestId } = await begin();
    try {
      await eventually(async () => {
        const [row] = await system.sql<{ state_step: number | null }>(
          'SELECT state_step FROM trainer.training_jobs WHERE request_id = $1',
          [requestId],
        );
        expect(row?.state_step ?? 0).toBeGreaterThanOrEqual(4);
      });
      const [worker] = await workersOf(holder.pid!);
      holder.kill('SIGKILL');
      await once(holder, 'exit');
      await system.restart('trainer');
      await eventually(() => expect(isAlive(worker!)).toBe(false));
      await eventually(async () => {
        const [row] = await system.sql<{ lease_epoch: number }>(
          'SELECT lease_epoch FROM trainer.training_jobs WHERE request_id = $1',
          [requestId],
        );
        expect(row?.lease_epoch).toBe(2);
      });
      const job = await jobOf(system, projectId, requestId, (seen) => expect(seen.status).toBe('completed'));
      expect(await artefactOf(projectId, job)).toBe(reference);
    } finally {
      holder.kill('SIGKILL');
    }
  });

  /** The trainer as a process of its own, as deployed. */
  async function spawnTrainer(): Promise<ChildProcess> {
    const child = fork(MAIN, [], {
      env: { ...test.system.env, PATH: process.env.PATH, PORT: String(await freePort()), LOG_LEVEL: 'error' },
      execArgv: [],
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    await once(child, 'message');
    return child;
  }
});

describe('a person stops a job', () => {
  it('cancels within seconds, leaves no worker, and never makes a checkpoint', async () => {
    const { system } = test;
    const { projectId, requestId } = await begin();
    const job = await midway(projectId, requestId);
    const cancelled = await system.call<TrainingJob>(cancelTrainingJob, { params: { id: job.id } }, { projectId });
    expect(cancelled.body).toMatchObject({ status: 'cancelled', cancelled_by: 'user:test' });
    await eventually(async () => expect(await workersOf(process.pid)).toEqual([]));
    const after = await jobById(system, projectId, job.id, (seen) => expect(seen.status).toBe('cancelled'));
    expect(after.checkpoint_id).toBeNull();
    expect((await published(system, projectId)).at(-1)).toMatchObject({
      type: 'training.cancelled',
      body: { job_id: job.id, cancelled_by: 'user:test' },
    });
    const again = await system.call(cancelTrainingJob, { params: { id: job.id } }, { projectId });
    expect(again.status).toBe(409);
  });

  it('pauses with the state kept, and resumes to the same bytes', async () => {
    const { system } = test;
    const { projectId, requestId } = await begin();
    const job = await midway(projectId, requestId);
    const paused = await system.call<TrainingJob>(pauseTrainingJob, { params: { id: job.id } }, { projectId });
    expect(paused.body.status).toBe('paused');
    await eventually(async () => {
      const [row] = await system.sql<{ lease_until: Date | null }>(
        'SELECT lease_until FROM trainer.training_jobs WHERE id = $1',
        [job.id],
      );
      expect(row?.lease_until).toBeNull();
    });
    expect(await workersOf(process.pid)).toEqual([]);
    await system.call(resumeTrainingJob, { params: { id: job.id } }, { projectId });
    const done = await jobById(system, projectId, job.id, (seen) => expect(seen.status).toBe('completed'));
    expect(await artefactOf(projectId, done)).toBe(reference);
  });
});

describe('a crash between the effects and the acknowledgement', () => {
  it.each([
    'pg.before_commit',
    'inbox.before_commit',
    'inbox.before_ack',
    'outbox.before_publish',
    'outbox.after_publish',
  ])('makes one job at %s', async (point) => {
    const { system, peers } = test;
    const projectId = await system.project();
    const requestId = newId();
    system.faults.arm(point, 'throw');
    await system.publish(trainingRequested, projectId, requestEvent(requestId));
    const version = peers.addVersion(preferenceRows({ train: 8, validation: 0, test: 0 }));
    await system.publish(datasetReady, projectId, readyEvent(requestId, version));
    const job = await jobOf(system, projectId, requestId, (seen) => expect(seen.status).toBe('completed'));
    const made = await system.sql('SELECT id FROM trainer.training_jobs WHERE project_id = $1', [projectId]);
    expect(made).toEqual([{ id: job.id }]);
    const checkpoints = await system.sql('SELECT id FROM trainer.checkpoints WHERE project_id = $1', [projectId]);
    expect(checkpoints).toEqual([{ id: job.checkpoint_id }]);
  });
});

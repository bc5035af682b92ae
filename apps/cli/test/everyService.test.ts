import { createApiKey, listDeadLetters, settleDeadLetterPublic } from '@tuneloop/contracts/gateway/http';
import { bootstrapProject, getProjectInternal } from '@tuneloop/contracts/gateway/internal';
import { eventSubject, streamName } from '@tuneloop/contracts/event';
import { projectChanged } from '@tuneloop/contracts/gateway/events';
import { operationsRoutes } from '@tuneloop/contracts/operations';
import { listFeedback } from '@tuneloop/contracts/rewards/http';
import { SERVICES, type ServiceName } from '@tuneloop/contracts/services';
import { newId } from '@tuneloop/runtime/ids';
import { eventually } from '@tuneloop/testkit/eventually';
import { startTestSystem, type TestSystem } from '@tuneloop/testkit/service';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DEFINITIONS } from '../src/start/definitions.ts';

/** What each service has from the runtime, on the real seven: operators' routes, and the check of API keys. */
interface DeadLetters {
  data: { id: string; service: ServiceName; code: string; error: string }[];
  unavailable: ServiceName[];
}

let system: TestSystem;
let projectId: string;
beforeAll(async () => {
  system = await startTestSystem(
    SERVICES.map((name) => DEFINITIONS[name]),
    { logLevel: 'fatal' },
  );
  projectId = newId();
});
afterAll(() => system.stop());

async function deadLetters(status: string, project = projectId): Promise<DeadLetters> {
  const answer = await system.call<DeadLetters>(listDeadLetters, { query: { status } }, { projectId: project });
  expect(answer.status).toBe(200);
  expect(answer.body.unavailable).toEqual([]);
  return answer.body;
}

describe.each(SERVICES)('%s', (name) => {
  it('lists what is committed and not yet published, to its own project only', async () => {
    const { pg, relay } = system.services.get(name)!.ctx;
    const { unpublished } = operationsRoutes(name);
    const list = (project: string) =>
      system.call<{ data: { id: string; data: unknown }[] }>(unpublished, {}, { projectId: project });
    const id = newId();
    relay.pause();
    await pg.withTenant(projectId, (tx) =>
      tx.execute(
        `INSERT INTO outbox (id, project_id, stream, subject, headers, body) VALUES ($1, $2, $3, $4, $5, $6)`,
        // A subject of its stream that no consumer of any service reads.
        [id, projectId, streamName(name), `tl.${projectId}.${ANY_TYPE[name]}.v9`, '{}', '{"said":"later"}'],
      ),
    );

    expect((await list(projectId)).body.data).toMatchObject([{ id, data: { said: 'later' } }]);
    expect((await list(newId())).body.data).toEqual([]);
    relay.resume();
    await eventually(async () => expect((await list(projectId)).body.data).toEqual([]));
  });
});

const ANY_TYPE: Readonly<Record<ServiceName, string>> = {
  gateway: 'project.changed',
  ingest: 'image.uploaded',
  responses: 'response.created',
  rewards: 'reward.recorded',
  datasets: 'dataset.ready',
  trainer: 'training.started',
  scheduler: 'training.requested',
};

describe('dead letters', () => {
  it('of all services are listed in one place, and each is dropped once, by its own project', async () => {
    const body = JSON.stringify({ project_id: 'none' });
    await system.bus.publish(eventSubject(projectChanged, projectId), body, { 'Nats-Msg-Id': newId() });
    // The scheduler reads the event twice: for the project, and for its schedule.
    const expected = [...SERVICES, 'scheduler'].toSorted();
    // Nothing is delivered to the gateway, so no door makes a dead letter there.
    await system.sql(
      `INSERT INTO gateway.dead_letters (id, project_id, consumer, event_id, subject, headers, body, code, error, deliveries)
       VALUES ($1, $2, 'gateway__none', $3, 'tl', '{}', '{}', 'c', 'e', 1)`,
      [newId(), projectId, newId()],
    );
    const { data } = await eventually(async () => {
      const found = await deadLetters('open');
      expect(found.data.map((row) => row.service).toSorted()).toEqual(expected);
      return found;
    });
    expect((await deadLetters('open', newId())).data).toEqual([]);

    for (const { id, service } of data) {
      const params = { service, id, action: 'drop' };
      expect((await system.call(settleDeadLetterPublic, { params }, { projectId: newId() })).status).toBe(404);
      const settled = await system.call(settleDeadLetterPublic, { params }, { projectId });
      expect(settled.body).toEqual({ id, status: 'dropped' });
      expect((await system.call(settleDeadLetterPublic, { params }, { projectId })).status).toBe(404);
    }
    expect((await deadLetters('open')).data).toEqual([]);
    expect((await deadLetters('dropped')).data).toHaveLength(expected.length);
  });
});

describe('without the gateway in between', () => {
  it('a service takes an API key that the gateway vouches for, and no other', async () => {
    const own = newId();
    const body = { project_id: own, slug: 'direct', name: 'Direct' };
    await system.call(bootstrapProject, { body }, { projectId: own });
    const made = await system.call<{ key: string }>(createApiKey, { body: { name: 'direct' } }, { projectId: own });
    const { key } = made.body;
    const direct = (bearer: string) =>
      fetch(new URL(listFeedback.path, system.url('rewards')), { headers: { authorization: `Bearer ${bearer}` } });

    expect((await direct(key)).status).toBe(200);
    const forged = await direct(key.slice(0, -1) + (key.endsWith('A') ? 'B' : 'A'));
    expect(forged.status).toBe(401);
    expect(await forged.json()).toMatchObject({ code: 'auth.key_invalid' });
  });

  it('a service reads a project as it is, and is told when there is none', async () => {
    const own = newId();
    const body = { project_id: own, slug: 'own', name: 'Own' };
    expect((await system.call(bootstrapProject, { body }, { projectId: own })).status).toBe(200);
    const found = await system.call(getProjectInternal, { params: { id: own } }, { projectId: own });
    expect(found.body).toMatchObject({ project_id: own, slug: 'own', name: 'Own' });
    const missing = await system.call(getProjectInternal, { params: { id: newId() } }, { projectId: own });
    expect(missing.status).toBe(404);
  });
});

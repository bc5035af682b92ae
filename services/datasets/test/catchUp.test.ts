import { preferenceRecorded } from '@tuneloop/contracts/rewards/events';
import type { ResponseRecord } from '@tuneloop/contracts/responses/events';
import { getResponseRecord } from '@tuneloop/contracts/responses/internal';
import { notFound } from '@tuneloop/runtime/errors';
import { mountRoute } from '@tuneloop/runtime/http/mountRoute';
import { emit } from '@tuneloop/runtime/outbox/emit';
import { projectHandler } from '@tuneloop/runtime/projects';
import { defineService, type ServiceContext } from '@tuneloop/runtime/service';
import { startTestSystem, type TestSystem } from '@tuneloop/testkit/service';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { datasetsService } from '../src/service.ts';
import { created, freeze, idOf, pair, pairs, preference, publish, publishAll, responseRecord } from './events.ts';

/** The answers that the owner has. */
const records = new Map<string, ResponseRecord>();
const NO_MIGRATIONS = new URL('./', import.meta.url);

/** Owners on the real runtime, with its outbox and its route to what is unpublished, and nothing else of their own. */
const owners = [
  defineService({
    name: 'responses',
    migrations: NO_MIGRATIONS,
    config: z.object({}),
    create: (ctx: ServiceContext) => ({
      routes: (app) => {
        mountRoute(app, ctx, getResponseRecord, async ({ params }) => {
          const record = records.get(params.id);
          if (!record) throw notFound('responses.response.not_found', 'no such response');
          return record;
        });
      },
      handlers: [projectHandler<ServiceContext>()],
    }),
  }),
  defineService({
    name: 'rewards',
    migrations: NO_MIGRATIONS,
    config: z.object({}),
    create: () => ({ routes: () => undefined, handlers: [projectHandler<ServiceContext>()] }),
  }),
];

let system: TestSystem;
beforeAll(async () => {
  system = await startTestSystem([...owners, datasetsService], { env: { CATCH_UP_MS: '1500' } });
});
afterAll(() => system.stop());

const ALL_TRAIN = { validation_share: 0, test_share: 0 };

async function warnings(versionId: unknown): Promise<string[]> {
  const [row] = await system.sql<{ validation: { warnings: { code: string }[] } }>(
    'SELECT validation FROM datasets.dataset_versions WHERE id = $1',
    [versionId],
  );
  return row?.validation.warnings.map((warning) => warning.code) ?? [];
}

describe('a freeze does not depend on a lag', () => {
  it('sees feedback that its owner has committed and not published', async () => {
    const projectId = await system.project(ALL_TRAIN);
    await publishAll(system, projectId, pairs(9));
    const shared = { prompt: 'New', messages: [{ role: 'user' as const, content: 'New' }], group_key: 'new' };
    await publish(system, projectId, created(responseRecord('new/good', shared)));
    await publish(system, projectId, created(responseRecord('new/bad', shared)));
    const rewards = system.services.get('rewards')!.ctx;
    rewards.relay.pause();
    try {
      const { data, subject } = preference('new/pref', 'new/good', 'new/bad');
      await rewards.pg.withTenant(projectId, (tx) =>
        emit(tx, preferenceRecorded, { subject, data: preferenceRecorded.schema.parse(data) }),
      );
      const { type, body } = await freeze(system, projectId);
      expect(type).toBe('tuneloop.dataset.ready');
      expect(body.examples).toBe(10);
      expect(await warnings(body.dataset_version_id)).toEqual([]);
    } finally {
      rewards.relay.resume();
    }
    // The event arrives after all and changes nothing.
    const again = await freeze(system, projectId);
    expect(again.body.examples).toBe(10);
  });

  it('asks the owner for answers that it has not seen, or only the beginning of', async () => {
    const projectId = await system.project(ALL_TRAIN);
    const shared = { prompt: 'Seen', messages: [{ role: 'user' as const, content: 'Seen' }], group_key: 'seen' };
    for (const name of ['unseen/good', 'unseen/bad', 'long']) {
      const record = responseRecord(name, { ...shared, response_text: `The whole of ${name}.` });
      records.set(record.response_id, record);
    }
    await publishAll(system, projectId, [
      ...pairs(9),
      preference('unseen/pref', 'unseen/good', 'unseen/bad'),
      created(
        responseRecord('long', { ...shared, messages: null, response_text: 'The wh', metadata: { clipped: true } }),
      ),
      preference('long/pref', 'long', 'unseen/bad'),
      preference('gone/pref', 'unseen/good', 'never-there'),
    ]);
    const { body } = await freeze(system, projectId);
    expect(body.examples).toBe(11);
    expect(await warnings(body.dataset_version_id)).toEqual([]);
    const [row] = await system.sql<{ chosen: string }>(
      `SELECT example->>'chosen' AS chosen FROM datasets.version_examples WHERE version_id = $1 AND id = $2`,
      [body.dataset_version_id, idOf('long/pref')],
    );
    expect(row?.chosen).toBe('The whole of long.');
    const [gone] = await system.sql<{ gone: boolean }>(
      'SELECT deleted_at IS NOT NULL AS gone FROM datasets.responses WHERE id = $1',
      [idOf('never-there')],
    );
    expect(gone?.gone).toBe(true);
  });

  it('freezes what it has, and says so, when an owner does not answer in time', async () => {
    const projectId = await system.project(ALL_TRAIN);
    await publishAll(system, projectId, pairs(10));
    await system.services.get('rewards')!.stop();
    try {
      const { type, body } = await freeze(system, projectId);
      expect(type).toBe('tuneloop.dataset.ready');
      expect(body.examples).toBe(10);
      expect(await warnings(body.dataset_version_id)).toEqual(['newest_feedback']);
    } finally {
      await system.restart('rewards');
    }
  });

  it("is not held up by another project's event that cannot be handled", async () => {
    const stuck = await system.project(ALL_TRAIN);
    const projectId = await system.project(ALL_TRAIN);
    // A lock on the row that the event wants: it is delivered and stays unacknowledged.
    const release = Promise.withResolvers<void>();
    const locked = Promise.withResolvers<void>();
    await publish(system, stuck, created(responseRecord('held')));
    await freeze(system, stuck);
    const { pg } = system.services.get('datasets')!.ctx;
    const holding = pg.withTenant(stuck, async (tx) => {
      await tx.query('SELECT 1 FROM responses WHERE id = $1 FOR UPDATE', [idOf('held')]);
      locked.resolve();
      await release.promise;
    });
    await locked.promise;
    try {
      await publish(system, stuck, created(responseRecord('held', { version: 2 })));
      await publishAll(system, projectId, [...pairs(9), ...pair('last')]);
      const { body } = await freeze(system, projectId);
      expect(body.examples).toBe(10);
      expect(await warnings(body.dataset_version_id)).toEqual([]);
    } finally {
      release.resolve();
      await holding;
    }
  });
});

import { eventSubject, streamName } from '@tuneloop/contracts/event';
import { imageRejected } from '@tuneloop/contracts/ingest/events';
import { operationsRoutes } from '@tuneloop/contracts/operations';
import { eventually } from '@tuneloop/testkit/eventually';
import { startTestService, type TestSystem } from '@tuneloop/testkit/service';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { DriftError, provisionConsumer, provisionStream } from '../src/bus/provision.ts';
import { AppError } from '../src/errors.ts';
import { newId } from '../src/ids.ts';
import { defineHandler } from '../src/inbox/handler.ts';
import { assertLease, type Lease, LeasedPool, LeaseLostError } from '../src/leases.ts';
import { emit, emitMany } from '../src/outbox/emit.ts';
import { defineService, type ServiceContext } from '../src/service.ts';

/** Codes for which the handler fails: always, or as often as it says. */
const failures = new Map<string, { left: number; error: Error }>();

/** A service that counts how often each code took effect. */
const counter = defineService({
  name: 'ingest',
  migrations: new URL('./counter/', import.meta.url),
  config: z.object({}),
  create: () => ({
    routes: () => undefined,
    handlers: [
      defineHandler({
        name: 'count',
        event: imageRejected,
        handle: async (tx, event, _ctx: ServiceContext) => {
          await tx.execute(
            `INSERT INTO counted (project_id, code) VALUES ($1, $2)
             ON CONFLICT (project_id, code) DO UPDATE SET times = counted.times + 1`,
            [tx.projectId, event.data.code],
          );
          const failure = failures.get(event.data.code);
          if (failure && failure.left-- > 0) throw failure.error;
        },
      }),
    ],
  }),
});

const routes = operationsRoutes('ingest');
let system: TestSystem;
let projectId: string;

beforeAll(async () => {
  system = await startTestService(counter);
  projectId = newId();
});
afterAll(() => system.stop());

const ctx = (): ServiceContext => system.services.get('ingest')!.ctx;

async function say(code: string): Promise<string> {
  return ctx().pg.withTenant(projectId, (tx) =>
    emit(tx, imageRejected, { subject: newId(), data: { source: 's', session_id: null, code, reason: 'r' } }),
  );
}

async function timesOf(code: string): Promise<number> {
  const rows = await ctx().pg.withTenant(projectId, (tx) =>
    tx.query<{ times: number }>('SELECT times FROM counted WHERE code = $1', [code]),
  );
  return rows[0]?.times ?? 0;
}

async function counted(code: string, times = 1): Promise<void> {
  await eventually(async () => expect(await timesOf(code)).toBe(times));
}

describe('outbox and inbox', () => {
  it('publishes what committed and nothing of what rolled back', async () => {
    await expect(
      ctx().pg.withTenant(projectId, async (tx) => {
        await emit(tx, imageRejected, {
          subject: newId(),
          data: { source: 's', session_id: null, code: 'rolled-back', reason: 'r' },
        });
        throw new Error('given up');
      }),
    ).rejects.toThrow('given up');
    await say('committed');
    await counted('committed');
    expect(await timesOf('rolled-back')).toBe(0);
  });

  it.each([
    'outbox.before_publish',
    'outbox.after_publish',
    'inbox.before_commit',
    'inbox.before_ack',
    'pg.before_commit',
    'pg.after_commit',
  ])('takes effect once when it breaks at %s', async (point) => {
    ctx().relay.pause();
    await say(point);
    system.faults.arm(point, 'throw');
    ctx().relay.resume();
    await counted(point);
    // Whatever is delivered again must find the inbox row: give it the time of a later event.
    await say(`${point}/later`);
    await counted(`${point}/later`);
    expect(await timesOf(point)).toBe(1);
  });

  it('drops a redelivery under another message id', async () => {
    const event = { subject: newId(), data: { source: 's', session_id: null, code: 'twice', reason: 'r' } };
    const id = await system.publish(imageRejected, projectId, event);
    await system.publish(imageRejected, projectId, event, { id });
    await say('after-twice');
    await counted('after-twice');
    expect(await timesOf('twice')).toBe(1);
  });

  it('keeps what the relay may not publish yet, in one batch a type', async () => {
    ctx().relay.pause();
    const codes = Array.from({ length: 300 }, (_, index) => `batch-${index}`);
    await ctx().pg.withTenant(projectId, (tx) =>
      emitMany(
        tx,
        imageRejected,
        codes.map((code) => ({ subject: newId(), data: { source: 's', session_id: null, code, reason: 'r' } })),
      ),
    );
    expect(await timesOf('batch-299')).toBe(0);
    ctx().relay.resume();
    await counted('batch-299');
    await counted('batch-0');
  });

  it('publishes again what a stream has lost, and counts it once', async () => {
    await say('before-loss');
    await counted('before-loss');
    const stream = streamName('ingest');
    const { state } = await system.bus.jsm.streams.info(stream);
    // An unclean end of the server takes the newest messages with it; here the whole stream goes.
    await system.bus.jsm.streams.delete(stream);
    await provisionStream(system.bus, { name: stream, subjects: ['tl.*.image.rejected.>'] }, ctx().log);
    await system.restart('ingest');
    await say('after-loss');
    await counted('after-loss');
    await eventually(async () => {
      const now = await system.bus.jsm.streams.info(stream);
      expect(now.state.messages).toBeGreaterThanOrEqual(state.messages - 50);
    });
    expect(await timesOf('before-loss')).toBe(1);
  });
});

describe('failures', () => {
  it('are tried again while they may pass', async () => {
    failures.set('flaky', { left: 2, error: new Error('not now') });
    await say('flaky');
    await counted('flaky');
  });

  it('become dead letters when they are final, replayed once mended, or dropped', async () => {
    for (const code of ['mended', 'hopeless']) {
      failures.set(code, {
        left: 1_000,
        error: new AppError({ code: 'test.final', status: 400, message: 'never', retry: false }),
      });
      await say(code);
    }
    const list = async (status: string) =>
      (
        await system.call<{ data: { id: string; code: string; body: string; error: string }[] }>(
          routes.deadLetters,
          { query: { status } },
          { projectId },
        )
      ).body.data;
    const letters = await eventually(async () => {
      const found = await list('open');
      expect(found.length).toBe(2);
      return found;
    });
    expect(letters[0]).toMatchObject({ code: 'test.final', error: expect.stringContaining('never') });
    failures.clear();
    const mended = letters.find((letter) => letter.body.includes('mended'))!;
    const hopeless = letters.find((letter) => letter.body.includes('hopeless'))!;
    await system.call(routes.settleDeadLetter, { body: { id: mended.id, action: 'replay' } }, { projectId });
    await system.call(routes.settleDeadLetter, { body: { id: hopeless.id, action: 'drop' } }, { projectId });
    await counted('mended');
    expect(await timesOf('hopeless')).toBe(0);
    expect(await list('open')).toEqual([]);
    const twice = await system.call(
      routes.settleDeadLetter,
      { body: { id: mended.id, action: 'replay' } },
      { projectId },
    );
    expect(twice.status).toBe(404);
  });

  it.each([
    ['no JSON', 'nonsense{', {}],
    ['a body that breaks the contract', '{"code":1}', {}],
    [
      'another project than the subject',
      '{"source":"s","session_id":null,"code":"x","reason":"r"}',
      { 'ce-projectid': newId() },
    ],
    ['an unknown version', '{"source":"s","session_id":null,"code":"x","reason":"r"}', { 'ce-dataschema': 'urn:x' }],
    ['no headers', '{}', null],
  ])('a message with %s is dead at once and the next is handled', async (name, body, headers) => {
    const project = newId();
    const good = {
      'ce-id': newId(),
      'ce-type': 'tuneloop.image.rejected',
      'ce-time': new Date().toISOString(),
      'ce-subject': 'x',
      'ce-dataschema': 'urn:tuneloop:event:image.rejected:v1',
      'ce-projectid': project,
    };
    await system.bus.publish(
      eventSubject(imageRejected, project),
      body,
      headers === null ? {} : { ...good, ...headers },
    );
    await eventually(async () => {
      const { body: page } = await system.call<{ data: { code: string }[] }>(
        routes.deadLetters,
        {},
        { projectId: project },
      );
      expect(page.data.map((letter) => letter.code)).toEqual(['runtime.event.malformed']);
    });
    await say(`next-${name}`);
    await counted(`next-${name}`);
  });
});

describe('provisioner', () => {
  it('fails on drift that it cannot apply, and changes what it can', async () => {
    const durable = `drift_${newId().slice(-8)}`;
    const stream = streamName('ingest');
    const filter = eventSubject(imageRejected, '*');
    await provisionConsumer(system.bus, { stream, durable, filter }, ctx().log);
    await provisionConsumer(system.bus, { stream, durable, filter }, ctx().log);
    await expect(
      provisionConsumer(system.bus, { stream, durable, filter: eventSubject(imageRejected, newId()) }, ctx().log),
    ).rejects.toThrow(DriftError);
  });
});

describe('leases', () => {
  const pools: LeasedPool[] = [];
  afterAll(() => Promise.all(pools.map((started) => started.stop())));

  function pool(owner: string, work: (lease: Lease) => Promise<void>, leaseMs = 1_000, heartbeatMs = 200): LeasedPool {
    const made = new LeasedPool({
      pg: ctx().pg,
      log: ctx().log,
      table: 'chores',
      claimFunction: 'claim_chores',
      owner,
      concurrency: 1,
      leaseMs,
      heartbeatMs,
      pollMs: 50,
      work,
    });
    pools.push(made);
    made.start();
    return made;
  }

  async function chore(): Promise<string> {
    const id = newId();
    await ctx().pg.withTenant(projectId, (tx) =>
      tx.execute('INSERT INTO chores (id, project_id) VALUES ($1, $2)', [id, projectId]),
    );
    return id;
  }

  const finish = (lease: Lease, by: string): Promise<void> =>
    ctx().pg.withTenant(lease.projectId, async (tx) => {
      await assertLease(tx, 'chores', lease);
      await tx.execute('UPDATE chores SET done_by = $2, lease_until = NULL WHERE id = $1', [lease.id, by]);
    });

  const doneBy = async (id: string): Promise<string | null> =>
    (await system.sql<{ done_by: string | null }>('SELECT done_by FROM ingest.chores WHERE id = $1', [id]))[0]!.done_by;

  it('keeps a long piece of work with one worker by heartbeats', async () => {
    const id = await chore();
    let second = 0;
    const release = Promise.withResolvers<void>();
    const holder = pool('holder', async (lease) => {
      await release.promise;
      await finish(lease, 'holder');
    });
    await eventually(() => expect(holder.active).toBe(1));
    const rival = pool('rival', async () => void (second += 1));
    await eventually(async () => {
      const rows = await system.sql<{ later: boolean }>(
        `SELECT lease_until > now() + interval '0.9 seconds' AS later FROM ingest.chores WHERE id = $1`,
        [id],
      );
      expect(rows[0]?.later).toBe(true);
    });
    release.resolve();
    await eventually(async () => expect(await doneBy(id)).toBe('holder'));
    expect(second).toBe(0);
    await Promise.all([holder.stop(), rival.stop()]);
  });

  it('gives work without heartbeats to another, and fences the first out', async () => {
    const id = await chore();
    let stale: Lease | undefined;
    const silent = pool(
      'silent',
      (lease) => {
        stale = lease;
        return new Promise((resolve) => lease.signal.addEventListener('abort', () => resolve(), { once: true }));
      },
      400,
      60_000,
    );
    await eventually(() => expect(stale).toBeDefined());
    const heir = pool('heir', (lease) => finish(lease, 'heir'));
    await eventually(async () => expect(await doneBy(id)).toBe('heir'));
    await expect(finish(stale!, 'silent')).rejects.toThrow(LeaseLostError);
    expect(await doneBy(id)).toBe('heir');
    await Promise.all([silent.stop(), heir.stop()]);
  });
});

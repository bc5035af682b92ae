import {
  responseCreated,
  responseDeleted,
  type ResponseRecord,
  responseUpdated,
} from '@tuneloop/contracts/responses/events';
import {
  createFeedback,
  listFeedback,
  listPreferences,
  listRewards,
  rftCreateReward,
} from '@tuneloop/contracts/rewards/http';
import { newId } from '@tuneloop/runtime/ids';
import { eventually } from '@tuneloop/testkit/eventually';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { response, type RewardsUnderTest, startRewards } from './rewardsUnderTest.ts';

interface Page<T> {
  data: T[];
}
interface Projected {
  version: number;
  response_text: string;
  deleted_at: Date | null;
}

let system: RewardsUnderTest;
let projectId: string;
beforeAll(async () => {
  system = await startRewards();
});
beforeEach(async () => {
  projectId = await system.project();
});
afterAll(() => system.stop());

async function projected(id: string): Promise<Projected | undefined> {
  const rows = await system.sql<Projected>(
    'SELECT version, response_text, deleted_at FROM rewards.responses WHERE project_id = $1 AND id = $2',
    [projectId, id],
  );
  return rows[0];
}

async function inboxCount(eventId: string): Promise<number> {
  const rows = await system.sql<{ n: string }>('SELECT count(*) AS n FROM rewards.inbox WHERE event_id = $1', [
    eventId,
  ]);
  return Number(rows[0]?.n);
}

const post = (body: object) => system.call<{ id: string }>(createFeedback, { body }, { projectId });
const count = async (contract: typeof listRewards | typeof listPreferences | typeof listFeedback) =>
  (await system.call<Page<object>>(contract, {}, { projectId })).body.data.length;

const created = (record: ResponseRecord, id?: string) =>
  system.publish(
    responseCreated,
    projectId,
    { subject: record.response_id, data: record },
    id === undefined ? {} : { id },
  );
const updated = (record: ResponseRecord) =>
  system.publish(responseUpdated, projectId, { subject: record.response_id, data: record });
const deleted = (id: string, version: number, reason: 'deleted' | 'erased' = 'deleted') =>
  system.publish(responseDeleted, projectId, { subject: id, data: { response_id: id, version, reason } });

describe('a response that the projection has not seen', () => {
  it('is asked of its owner, so that a reward right after it always works', async () => {
    const records = Array.from({ length: 40 }, () => response());
    for (const record of records) system.owner.keep(projectId, record);
    const answers = await Promise.all(
      records.map((record) =>
        system.call(rftCreateReward, { body: { response_id: record.response_id, score: 1 } }, { projectId }),
      ),
    );
    expect(answers.map(({ status }) => status)).toEqual(records.map(() => 200));
    expect(await count(listRewards)).toBe(40);
  });

  it('is asked for once, and by completion and choice too', async () => {
    const completion_id = `chatcmpl-${newId()}`;
    system.owner.keep(projectId, response({ completion_id, choice: 1 }));
    const before = system.owner.asked;
    for (const value of ['up', 'down']) {
      expect((await post({ kind: 'thumbs', value, completion_id, choice: 1 })).status).toBe(201);
    }
    expect(system.owner.asked).toBe(before + 1);
  });

  it('is counted once when its event arrives after all', async () => {
    const record = response();
    system.owner.keep(projectId, { ...record, version: 2, response_text: 'newer' });
    await post({ kind: 'thumbs', value: 'up', response_id: record.response_id });
    const eventId = await created(record);
    await eventually(async () => (await inboxCount(eventId)) === 1);
    expect(await projected(record.response_id)).toMatchObject({ version: 2, response_text: 'newer' });
  });
});

describe('response events', () => {
  it('keep the highest version, in any order and however often they come', async () => {
    const record = response();
    const at = (version: number) => ({ ...record, version, response_text: `v${version}` });
    await updated(at(3));
    await eventually(async () => (await projected(record.response_id))?.version === 3);
    const eventId = newId();
    await created(at(1), eventId);
    await created(at(1), eventId);
    await updated(at(2));
    await updated(at(4));
    await eventually(async () => (await projected(record.response_id))?.version === 4);
    expect(await inboxCount(eventId)).toBe(1);
    expect(await projected(record.response_id)).toMatchObject({ response_text: 'v4' });
  });

  it.each(['inbox.before_commit', 'pg.before_commit', 'pg.after_commit', 'inbox.before_ack'])(
    'are applied once when the handler fails at %s',
    async (point) => {
      const record = response();
      system.faults.arm(point, 'throw');
      const eventId = await created(record);
      await eventually(async () => (await inboxCount(eventId)) === 1);
      expect(await projected(record.response_id)).toMatchObject({ version: 1 });
    },
  );

  it('that delete retract what was said, for good', async () => {
    const [a, b] = [response(), response()];
    await system.known(projectId, a, b);
    const by = { user_id: 'ann' };
    await post({ ...by, kind: 'stars', value: 5, response_id: a.response_id });
    await post({ ...by, kind: 'stars', value: 1, response_id: b.response_id });
    await post({ ...by, kind: 'correction', correction: 'better', response_id: a.response_id });
    await post({ ...by, kind: 'ab', value: 'b', response_id: b.response_id, other_response_id: a.response_id });
    expect([await count(listRewards), await count(listPreferences)]).toEqual([2, 3]);
    await deleted(a.response_id, 2);
    await eventually(async () => (await projected(a.response_id))?.deleted_at !== null);
    expect([await count(listRewards), await count(listPreferences), await count(listFeedback)]).toEqual([1, 0, 1]);
    const retracted = (await system.announced(projectId)).filter(({ type }) => type.endsWith('.retracted'));
    expect(retracted.map(({ type, data }) => `${type} ${String(data.reason)}`).toSorted()).toEqual([
      'preference.retracted deleted',
      'preference.retracted deleted',
      'preference.retracted deleted',
      'reward.retracted deleted',
    ]);

    // A late event does not bring it back, and nor does its owner's word.
    const late = await updated({ ...a, version: 3 });
    await eventually(async () => (await inboxCount(late)) === 1);
    system.owner.keep(projectId, a);
    expect((await post({ ...by, kind: 'stars', value: 5, response_id: a.response_id })).status).toBe(404);
    expect(await projected(a.response_id)).toMatchObject({ response_text: '' });
  });

  it('that delete before they create leave a tombstone', async () => {
    const record = response();
    await deleted(record.response_id, 2);
    await eventually(async () => (await projected(record.response_id)) !== undefined);
    const late = await created(record);
    await eventually(async () => (await inboxCount(late)) === 1);
    expect((await projected(record.response_id))?.deleted_at).not.toBeNull();
  });

  it('that erase take the words along, also after a deletion', async () => {
    const record = response();
    await system.known(projectId, record);
    const secret = 'my name is Ann';
    await post({ kind: 'comment', comment: secret, response_id: record.response_id });
    await post({ kind: 'correction', correction: secret, response_id: record.response_id, metadata: { secret } });
    await system.call(
      rftCreateReward,
      { body: { response_id: record.response_id, score: 1, detail: { secret } } },
      { projectId },
    );
    const holding = async () => {
      const rows = await system.sql<{ n: string }>(
        `SELECT (SELECT count(*) FROM rewards.feedback f WHERE f::text LIKE $1)
           + (SELECT count(*) FROM rewards.rewards r WHERE r::text LIKE $1)
           + (SELECT count(*) FROM rewards.preferences p WHERE p::text LIKE $1) AS n`,
        [`%${secret}%`],
      );
      return Number(rows[0]?.n);
    };
    expect(await holding()).toBe(4);
    await deleted(record.response_id, 2);
    await deleted(record.response_id, 3, 'erased');
    await eventually(async () => (await holding()) === 0);
  });

  it('that move an answer to another prompt take its ratings along', async () => {
    const [a, b] = [response({ prompt: 'P' }), response({ prompt: 'Q' })];
    await system.known(projectId, a, b);
    await post({ kind: 'stars', value: 5, response_id: a.response_id, user_id: 'ann' });
    await post({ kind: 'stars', value: 1, response_id: b.response_id, user_id: 'ann' });
    expect(await count(listPreferences)).toBe(0);
    await updated({ ...b, prompt: 'P', version: 2 });
    await eventually(async () => (await count(listPreferences)) === 1);
    await updated({ ...b, prompt: 'Q', version: 3 });
    await eventually(async () => (await count(listPreferences)) === 0);
  });
});

describe('feedback submitted over NATS', () => {
  const submit = (body: unknown, headers: Record<string, string> = {}, project = projectId) =>
    system.bus.publish(`ext.${project}.feedback.submitted.v1`, typeof body === 'string' ? body : JSON.stringify(body), {
      'Nats-Msg-Id': newId(),
      ...headers,
    });
  const item = (record: ResponseRecord, fields: object = {}) => ({
    id: newId(),
    source: '/kiosk',
    response_id: record.response_id,
    kind: 'stars',
    value: 4,
    ...fields,
  });

  it.each([
    [{ kind: 'stars', value: 2 }, -0.5],
    [{ kind: 'thumbs', value: 'up' }, 1],
    [{ kind: 'like', value: 'dislike' }, -0.5],
    [{ kind: 'score', value: 0.2 }, 0.2],
    [{ kind: 'comment', value: 'fine' }, null],
    [{ kind: 'report', value: 'unsafe', comment: 'see there' }, null],
  ])('is taken as over HTTP: %j', async (said, score) => {
    const record = response();
    system.owner.keep(projectId, record);
    await submit(item(record, said));
    const feedback = await eventually(async () => {
      const page = await system.call<Page<{ score: number | null; kind: string }>>(listFeedback, {}, { projectId });
      return page.body.data[0] ?? false;
    });
    expect(feedback).toMatchObject({ kind: said.kind, score });
  });

  it.each(['inbox.before_commit', 'pg.after_commit', 'inbox.before_ack'])(
    'is counted once, however often it is sent and though the handler fails at %s',
    async (point) => {
      const record = response();
      system.owner.keep(projectId, record);
      system.faults.arm(point, 'throw');
      const body = item(record);
      for (let copy = 0; copy < 4; copy++) await submit(body);
      const last = item(record, { id: 'last' });
      await submit(last);
      await eventually(async () => (await count(listRewards)) === 2);
      expect(await count(listFeedback)).toBe(2);
    },
  );

  it('of one project does not stand in the way of another with the same id', async () => {
    const other = await system.project();
    const [mine, theirs] = [response(), response()];
    system.owner.keep(projectId, mine);
    system.owner.keep(other, theirs);
    const shared = { id: newId(), source: '/kiosk' };
    await submit(item(theirs, shared), { 'ce-projectid': projectId }, other);
    await submit(item(mine, shared));
    await eventually(async () => (await count(listRewards)) === 1);
    const mineOnly = await system.call<Page<{ response_id: string }>>(listRewards, {}, { projectId });
    expect(mineOnly.body.data).toMatchObject([{ response_id: mine.response_id }]);
  });

  it('that cannot be taken is answered with field and reason, and kept as a dead letter', async () => {
    const record = response();
    system.owner.keep(projectId, record);
    const answers: { id: string; field: string; reason: string }[] = [];
    const subscription = system.bus.nc.subscribe(`rejects.${projectId}.feedback.v1`, {
      callback: (_error, message) => void answers.push(message.json()),
    });
    const bad: [object, string][] = [
      [item(record, { id: 'kind', kind: 'ab' }), 'kind'],
      [item(record, { id: 'value', value: 'five' }), 'value'],
      [item(record, { id: 'words', kind: 'comment', value: 5 }), 'value'],
      [item(response(), { id: 'unknown' }), 'response_id'],
    ];
    for (const [body] of bad) await submit(body);
    await submit('{"id":"json"', { 'ce-id': 'json', 'ce-source': '/kiosk' });
    await submit(item(record, { id: 'good' }));
    await eventually(() => answers.length === bad.length + 1);
    subscription.unsubscribe();
    expect(new Map(answers.map(({ id, field }) => [id, field]))).toEqual(
      new Map([
        ['json', 'body'],
        ...bad.map(([body, field]): [string, string] => ['id' in body ? String(body.id) : '', field]),
      ]),
    );
    await eventually(async () => (await count(listRewards)) === 1);
    const [dead] = await system.sql<{ n: string }>(
      'SELECT count(*) AS n FROM rewards.dead_letters WHERE project_id = $1',
      [projectId],
    );
    expect(Number(dead?.n)).toBe(bad.length + 1);
  });

  it('goes into every project’s dead letters, whatever id another project used', async () => {
    const other = await system.project();
    const shared = { id: newId(), source: '/kiosk', kind: 'ab' };
    for (const project of [projectId, other])
      await submit(item(response(), shared), { 'ce-id': shared.id, 'ce-source': 's' }, project);
    const kept = await eventually(async () => {
      const rows = await system.sql<{ code: string }>(
        'SELECT code FROM rewards.dead_letters WHERE project_id = ANY($1::uuid[])',
        [[projectId, other]],
      );
      return rows.length === 2 && rows;
    });
    expect(kept).toEqual([{ code: 'intake.invalid' }, { code: 'intake.invalid' }]);
  });
});

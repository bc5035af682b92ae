import { createFeedback, createFeedbackBatch, deleteFeedback, listFeedback } from '@tuneloop/contracts/rewards/http';
import { signGatewayToken } from '@tuneloop/runtime/auth/tokens';
import { deriveSigningKey } from '@tuneloop/runtime/auth/keys';
import type { Scope } from '@tuneloop/contracts/route';
import { newId } from '@tuneloop/runtime/ids';
import { TEST_SECRET } from '@tuneloop/testkit/service';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { response, type RewardsUnderTest, startRewards } from './rewardsUnderTest.ts';

const answer = response();
const REVIEWER: readonly Scope[] = ['read', 'feedback'];
let system: RewardsUnderTest;
let projectId: string;
beforeAll(async () => {
  system = await startRewards();
  projectId = await system.project();
  await system.known(projectId, answer);
});
afterAll(() => system.stop());

interface Caller {
  authorization: string;
}

const person = async (subject: string, scopes = REVIEWER, project = projectId): Promise<Caller> => ({
  authorization: await system.authorization({ projectId: project, subject, scopes }),
});

async function key(id: string, scopes: readonly Scope[] = ['feedback']): Promise<Caller> {
  const token = await signGatewayToken(deriveSigningKey(TEST_SECRET, 'gateway'), {
    projectId,
    subject: id,
    actor: `key:${id}`,
    scopes,
    role: 'reviewer',
    kind: 'api_key',
  });
  return { authorization: `Bearer ${token}` };
}

const as = (caller: Caller, project = projectId) => ({ projectId: project, headers: { ...caller } });

async function say(caller: Caller, userId?: string): Promise<string> {
  const body = { kind: 'stars', value: 4, response_id: answer.response_id, ...(userId ? { user_id: userId } : {}) };
  const made = await system.call<{ id: string }>(createFeedback, { body }, as(caller));
  expect(made.status).toBe(201);
  return made.body.id;
}

const remove = (caller: Caller, id: string, project = projectId) =>
  system.call<{ code: string; status: string }>(deleteFeedback, { params: { id } }, as(caller, project));

async function stillCounts(id: string): Promise<boolean> {
  const { body } = await system.call<{ data: { id: string }[] }>(listFeedback, {}, { projectId });
  return body.data.some((row) => row.id === id);
}

describe('feedback is taken back', () => {
  it('by the person who gave it, whoever sent it in for them', async () => {
    const ann = await person('ann');
    expect((await remove(ann, await say(ann))).status).toBe(200);
    const imported = await say(await key('import', ['feedback', 'write']), 'ann');
    expect((await remove(ann, imported)).status).toBe(200);
    expect(await stillCounts(imported)).toBe(false);
  });

  it('by the key that sent it, one by one or in a batch', async () => {
    const kiosk = await key('kiosk');
    expect((await remove(kiosk, await say(kiosk, 'visitor-1'))).status).toBe(200);
    expect((await remove(kiosk, await say(kiosk))).status).toBe(200);
    const item = { kind: 'stars', value: 2, response_id: answer.response_id, user_id: 'visitor-2' };
    const batch = await system.call<{ results: { feedback: { id: string } }[] }>(
      createFeedbackBatch,
      { body: { items: [item] } },
      as(kiosk),
    );
    expect((await remove(kiosk, batch.body.results[0]!.feedback.id)).status).toBe(200);
  });

  it.each([['write'], ['admin']] as const)('by anyone with the scope %s, whosever it is', async (scope) => {
    const id = await say(await person(`someone-${scope}`));
    expect((await remove(await key(`boss-${scope}`, ['feedback', scope]), id)).status).toBe(200);
    expect(await stillCounts(id)).toBe(false);
  });
});

describe('refused, and the feedback goes on counting:', () => {
  const REFUSED: [string, () => Promise<Caller>, number, string][] = [
    ['another person', () => person('eve'), 403, 'rewards.feedback.not_own'],
    ['another key', () => key('other'), 403, 'rewards.feedback.not_own'],
    ['a key whose id is the name of the person', () => key('bob'), 403, 'rewards.feedback.not_own'],
    ['a person who may only read', () => person('bob', ['read']), 403, 'auth.scope_missing'],
    ['a person who may only train', () => person('bob', ['train']), 403, 'auth.scope_missing'],
  ];
  it.each(REFUSED)('%s', async (_who, caller, status, code) => {
    const id = await say(await person('bob'));
    const refused = await remove(await caller(), id);
    expect([refused.status, refused.body.code]).toEqual([status, code]);
    expect(await stillCounts(id)).toBe(true);
  });

  it('the same person of another project, who learns nothing of it', async () => {
    const id = await say(await person('bob'));
    const project = await system.project();
    const refused = await remove(await person('bob', REVIEWER, project), id, project);
    expect([refused.status, refused.body.code]).toEqual([404, 'rewards.feedback.not_found']);
    expect(await stillCounts(id)).toBe(true);
  });

  it('an id that is none, one that names nothing, and one that was taken back before', async () => {
    const bob = await person('bob');
    expect((await remove(bob, 'x')).status).toBe(400);
    expect((await remove(bob, newId())).status).toBe(404);
    const id = await say(bob);
    expect((await remove(bob, id)).status).toBe(200);
    expect((await remove(bob, id)).status).toBe(404);
  });
});

import {
  createFeedback,
  createFeedbackBatch,
  getStatistics,
  listFeedback,
  listPreferences,
} from '@tuneloop/contracts/rewards/http';
import { newId } from '@tuneloop/runtime/ids';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { response, type RewardsUnderTest, startRewards } from './rewardsUnderTest.ts';

interface Problem {
  code: string;
  errors?: { field: string; message: string }[];
}

const answer = response();
const elsewhere = response({ prompt: 'Another prompt.' });
const id = answer.response_id;
let system: RewardsUnderTest;
let projectId: string;
beforeAll(async () => {
  system = await startRewards();
  projectId = await system.project();
  await system.known(projectId, answer, elsewhere);
});
afterAll(() => system.stop());

const BAD: [string, object, number, string][] = [
  ['nothing', {}, 400, 'kind'],
  ['an unknown kind', { kind: 'applause', response_id: id }, 400, 'kind'],
  ['no answer', { kind: 'stars', value: 3 }, 400, 'response_id'],
  ['two answers', { kind: 'stars', value: 3, response_id: id, completion_id: 'c' }, 400, 'response_id'],
  ['an id that is none', { kind: 'stars', value: 3, response_id: '42' }, 400, 'response_id'],
  ['an unknown answer', { kind: 'stars', value: 3, response_id: newId() }, 404, 'response_id'],
  ['an unknown completion', { kind: 'stars', value: 3, completion_id: 'chatcmpl-none' }, 404, 'completion_id'],
  ['six stars', { kind: 'stars', value: 6, response_id: id }, 400, 'value'],
  ['half a star', { kind: 'stars', value: 3.5, response_id: id }, 400, 'value'],
  ['stars as text', { kind: 'stars', value: '5', response_id: id }, 400, 'value'],
  ['no stars', { kind: 'stars', response_id: id }, 400, 'value'],
  ['a score beyond 1', { kind: 'score', value: 1.01, response_id: id }, 400, 'value'],
  ['a thumb sideways', { kind: 'thumbs', value: 'sideways', response_id: id }, 400, 'value'],
  ['quality 0', { kind: 'like', value: 'like', quality: 0, response_id: id }, 400, 'quality'],
  ['an unknown dimension', { kind: 'dimensions', dimensions: { wit: 1 }, response_id: id }, 400, 'dimensions.wit'],
  ['no dimension', { kind: 'dimensions', dimensions: {}, response_id: id }, 400, 'dimensions'],
  ['an empty comment', { kind: 'comment', comment: '', response_id: id }, 400, 'comment'],
  [
    'an endless correction',
    { kind: 'correction', correction: 'ü'.repeat(150_000), response_id: id },
    400,
    'correction',
  ],
  ['one side', { kind: 'ab', value: 'a', response_id: id }, 400, 'other_response_id'],
  ['the same side twice', { kind: 'ab', value: 'a', response_id: id, other_response_id: id }, 400, 'other_response_id'],
  [
    'sides of two prompts',
    { kind: 'ab', value: 'a', response_id: id, other_response_id: elsewhere.response_id },
    400,
    'other_response_id',
  ],
  ['a NUL', { kind: 'comment', comment: 'a\0', response_id: id }, 400, 'comment'],
  ['half a character', { kind: 'comment', comment: '\ud800', response_id: id }, 400, 'comment'],
  ['a time that is none', { kind: 'stars', value: 1, response_id: id, created_at: 'yesterday' }, 400, 'created_at'],
  [
    'a time before time',
    { kind: 'stars', value: 1, response_id: id, created_at: '0000-01-01T00:00:00Z' },
    400,
    'created_at',
  ],
];

describe('POST /api/v1/feedback refuses, names the field, and keeps nothing', () => {
  it.each(BAD)('%s', async (_case, body, status, field) => {
    const refused = await system.call<Problem>(createFeedback, { body }, { projectId });
    expect(refused.status).toBe(status);
    expect(refused.body.errors?.map((error) => error.field)).toContain(field);
  });

  it('each of them in a batch, without harm to its neighbours', async () => {
    const good = { kind: 'stars', value: 3, response_id: id };
    // What is wrong with the text itself is wrong with the whole body.
    const bad = BAD.filter(([, body]) => !/\\u0000|\\ud800/.test(JSON.stringify(body)));
    const items = [good, ...bad.map(([, body]) => body), good];
    const answered = await system.call<{
      accepted: number;
      rejected: number;
      results: { index: number; feedback: object | null; error: { status: number; field: string } | null }[];
    }>(createFeedbackBatch, { body: { items } }, { projectId });
    expect(answered.status).toBe(200);
    expect(answered.body).toMatchObject({ accepted: 2, rejected: bad.length });
    expect(answered.body.results.slice(1, -1).map(({ error }) => [error?.status, error?.field])).toEqual(
      bad.map(([, , status, field]) => [status, field]),
    );
    const kept = await system.call<{ data: object[] }>(listFeedback, { query: { status: 'all' } }, { projectId });
    expect(kept.body.data).toHaveLength(2);
  });

  it('a batch of nothing, or of too much', async () => {
    for (const items of [[], Array.from({ length: 501 }, () => ({})), 'x']) {
      const refused = await system.call<Problem>(createFeedbackBatch, { body: { items } }, { projectId });
      expect(refused.status).toBe(400);
      expect(refused.body.errors?.[0]?.field).toBe('items');
    }
  });

  it('another project’s answer, as if it were not there', async () => {
    const other = await system.project();
    const body = { kind: 'stars', value: 3, response_id: id };
    const refused = await system.call<Problem>(createFeedback, { body }, { projectId: other });
    expect(refused).toMatchObject({ status: 404, body: { code: 'rewards.response.not_found' } });
  });

  it('who may not give feedback', async () => {
    const body = { kind: 'stars', value: 3, response_id: id };
    const refused = await system.call(createFeedback, { body }, { projectId, scopes: ['read'], role: 'viewer' });
    expect(refused.status).toBe(403);
  });
});

describe('lists and statistics refuse', () => {
  it.each([
    [listFeedback, { cursor: 'x' }, 'cursor'],
    [listFeedback, { limit: 0 }, 'limit'],
    [listFeedback, { limit: 501 }, 'limit'],
    [listFeedback, { response_id: 'x' }, 'response_id'],
    [listFeedback, { kind: 'applause' }, 'kind'],
    [listPreferences, { cursor: 'AAAA' }, 'cursor'],
    [getStatistics, { by: 'weather' }, 'by'],
    [getStatistics, { from: 'monday' }, 'from'],
  ])('%s', async (contract, query, field) => {
    const refused = await system.call<Problem>(contract, { query: { ...query } }, { projectId });
    expect(refused.status).toBe(400);
    expect(refused.body.errors?.[0]?.field).toBe(field);
  });
});

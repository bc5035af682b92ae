import {
  createFeedback,
  createFeedbackBatch,
  deleteFeedback,
  listFeedback,
  listPreferences,
  listRewards,
} from '@tuneloop/contracts/rewards/http';
import { newId } from '@tuneloop/runtime/ids';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { response, type RewardsUnderTest, startRewards } from './rewardsUnderTest.ts';

interface Outcome {
  id: string;
  score: number | null;
  user_id: string;
  status: string;
  supersedes: string | null;
  superseded_by: string | null;
  reward_id: string | null;
  preference_ids: string[];
}
interface Page<T> {
  data: T[];
  next_cursor: string | null;
}
interface Reward {
  reward_id: string;
  score: number;
  kind: string;
  stars: number | null;
  version: number;
}
interface Preference {
  preference_id: string;
  chosen_response_id: string;
  rejected_response_id: string;
  chosen_text: string | null;
  source: string;
  margin: number | null;
  feedback_ids: string[];
}

let system: RewardsUnderTest;
let projectId: string;
beforeAll(async () => {
  system = await startRewards();
});
afterAll(() => system.stop());

async function post(body: object, as: object = {}): Promise<Outcome> {
  const answer = await system.call<Outcome>(createFeedback, { body }, { projectId, ...as });
  if (answer.status !== 201) throw new Error(`${answer.status} ${JSON.stringify(answer.body)}`);
  return answer.body;
}
const rewards = async (query: Record<string, string> = {}) =>
  (await system.call<Page<Reward>>(listRewards, { query }, { projectId })).body.data;
const preferences = async () => (await system.call<Page<Preference>>(listPreferences, {}, { projectId })).body.data;

describe('POST /api/v1/feedback', () => {
  const answer = response({ brand: 'acme', task: 'caption' });
  const other = response();
  const elsewhere = response({ prompt: 'Another prompt.' });
  beforeAll(async () => {
    projectId = await system.project();
    await system.known(projectId, answer, other, elsewhere);
  });

  it.each([
    [{ kind: 'thumbs', value: 'up' }, 1, null],
    [{ kind: 'thumbs', value: 'down' }, -1, null],
    [{ kind: 'stars', value: 1 }, -1, 1],
    [{ kind: 'stars', value: 4 }, 0.5, 4],
    [{ kind: 'like', value: 'like' }, 0.5, null],
    [{ kind: 'like', value: 'dislike', quality: 4 }, -0.3, null],
    [{ kind: 'like', value: 'like', quality: 5 }, 0.9, null],
    [{ kind: 'like', value: 'dislike', quality: 1 }, -0.9, null],
    [{ kind: 'dimensions', dimensions: { accuracy: 1, brand: 0.5, compliance: -1 } }, 0.45, null],
    [{ kind: 'score', value: -0.25 }, -0.25, null],
    [{ kind: 'comment', comment: 'too long', score: -0.5 }, -0.5, null],
  ])('scores %j as %d', async (said, score, stars) => {
    const user_id = `scorer-${newId()}`;
    const outcome = await post({ ...said, response_id: answer.response_id, user_id });
    expect(outcome).toMatchObject({ score, user_id, status: 'active', brand: 'acme', task: 'caption' });
    const recorded = (await rewards({ response_id: answer.response_id })).find(
      (r) => r.reward_id === outcome.reward_id,
    );
    expect(recorded).toMatchObject({ score, stars, kind: said.kind, version: 1 });
  });

  it.each([[{ kind: 'comment', comment: 'nice' }], [{ kind: 'report', reason: 'unsafe' }]])(
    'keeps %j without a reward',
    async (said) => {
      const outcome = await post({ ...said, response_id: answer.response_id });
      expect(outcome).toMatchObject({ score: null, reward_id: null, preference_ids: [] });
    },
  );

  it('supersedes the earlier rating of the same person and kind, and of nobody else', async () => {
    const target = response();
    await system.known(projectId, target);
    const rate = (value: number, user_id?: string) =>
      post({ kind: 'stars', value, response_id: target.response_id, user_id });
    const first = await rate(2, 'ann');
    const bob = await rate(3, 'bob');
    await post({ kind: 'thumbs', value: 'up', response_id: target.response_id, user_id: 'ann' });
    const second = await rate(5, 'ann');
    expect(second.supersedes).toBe(first.id);
    const counting = await rewards({ response_id: target.response_id });
    expect(counting.map((reward) => reward.score).toSorted((a, b) => a - b)).toEqual([0, 1, 1]);
    expect(counting.map((reward) => reward.reward_id)).toContain(bob.reward_id);
    const history = await system.call<Page<Outcome>>(
      listFeedback,
      { query: { response_id: target.response_id, status: 'all' } },
      { projectId },
    );
    expect(history.body.data).toHaveLength(4);
    expect(history.body.data.find(({ id }) => id === first.id)).toMatchObject({
      status: 'superseded',
      superseded_by: second.id,
    });
    const retracted = (await system.announced(projectId)).filter(({ type }) => type === 'reward.retracted');
    expect(retracted).toEqual([
      {
        type: 'reward.retracted',
        data: { reward_id: first.reward_id, response_id: target.response_id, version: 2, reason: 'superseded' },
      },
    ]);
  });

  it('keeps every rating of people who are not known, and every comment', async () => {
    const target = response();
    await system.known(projectId, target);
    for (const user_id of ['anonymous', 'anonymous']) {
      await post({ kind: 'stars', value: 4, response_id: target.response_id, user_id });
      await post({ kind: 'comment', comment: 'hm', response_id: target.response_id, user_id: 'ann' });
    }
    expect(await rewards({ response_id: target.response_id })).toHaveLength(2);
  });

  it('lets a rating that was made earlier, but arrives later, stand in the history only', async () => {
    const target = response();
    await system.known(projectId, target);
    const rate = (value: number, created_at: string) =>
      post({ kind: 'stars', value, response_id: target.response_id, user_id: 'ann', created_at });
    const later = await rate(5, '2026-03-02T00:00:00Z');
    const earlier = await rate(1, '2026-03-01T00:00:00Z');
    expect(earlier).toMatchObject({ status: 'superseded', superseded_by: later.id, reward_id: null });
    expect((await rewards({ response_id: target.response_id })).map(({ score }) => score)).toEqual([1]);
  });

  it('makes a preference of A over B, and of a changed mind the other one', async () => {
    const choose = (value: string) =>
      post({
        kind: 'ab',
        value,
        response_id: answer.response_id,
        other_response_id: other.response_id,
        user_id: 'ann',
      });
    const chosen = await choose('a');
    expect(chosen.preference_ids).toHaveLength(1);
    expect((await preferences()).filter(({ source }) => source === 'ab')).toMatchObject([
      { chosen_response_id: answer.response_id, rejected_response_id: other.response_id, feedback_ids: [chosen.id] },
    ]);
    // The same question asked the other way round.
    await post({
      kind: 'ab',
      value: 'a',
      response_id: other.response_id,
      other_response_id: answer.response_id,
      user_id: 'ann',
    });
    expect((await preferences()).filter(({ source }) => source === 'ab')).toMatchObject([
      { chosen_response_id: other.response_id, rejected_response_id: answer.response_id },
    ]);
    for (const value of ['tie', 'both_bad', 'cant_tell']) {
      expect((await choose(value)).preference_ids).toEqual([]);
      expect((await preferences()).filter(({ source }) => source === 'ab')).toEqual([]);
    }
  });

  it('makes a preference of a correction over the original', async () => {
    const outcome = await post({ kind: 'correction', correction: 'A blue mug.', response_id: answer.response_id });
    expect(
      (await preferences()).find(({ preference_id }) => preference_id === outcome.preference_ids[0]),
    ).toMatchObject({
      source: 'correction',
      chosen_text: 'A blue mug.',
      chosen_response_id: answer.response_id,
      rejected_response_id: answer.response_id,
    });
  });

  it('finds the answer by completion and choice', async () => {
    const completion_id = `chatcmpl-${newId()}`;
    const choices = [0, 1].map((choice) => response({ completion_id, choice }));
    await system.known(projectId, ...choices);
    const outcome = await post({ kind: 'thumbs', value: 'up', completion_id, choice: 1 });
    expect(outcome).toMatchObject({ response_id: choices[1]?.response_id });
    expect(await post({ kind: 'thumbs', value: 'up', completion_id })).toMatchObject({
      response_id: choices[0]?.response_id,
    });
  });

  it('answers a repeated Idempotency-Key once', async () => {
    const headers = { 'idempotency-key': newId() };
    const body = { kind: 'score', value: 0.1, response_id: elsewhere.response_id };
    const [first, second] = await Promise.all([post(body, { headers }), post(body, { headers })]);
    expect(second?.id).toBe(first?.id);
    expect(await rewards({ response_id: elsewhere.response_id })).toHaveLength(1);
  });

  it('speaks for the signed-in person, and only for them', async () => {
    const reviewer = { subject: 'rita', role: 'reviewer', scopes: ['feedback'] as const };
    const body = { kind: 'stars', value: 3, response_id: answer.response_id };
    expect((await post(body, reviewer)).user_id).toBe('rita');
    const forged = await system.call<{ code: string }>(
      createFeedback,
      { body: { ...body, user_id: 'ann' } },
      { projectId, ...reviewer },
    );
    expect(forged).toMatchObject({ status: 403, body: { code: 'rewards.feedback.other_user' } });
  });

  it('keeps one rating when the same person rates at the same moment', async () => {
    const target = response();
    await system.known(projectId, target);
    const rate = (value: number) => post({ kind: 'stars', value, response_id: target.response_id, user_id: 'ann' });
    await Promise.all([1, 2, 3, 4, 5, 1, 2, 3].map(rate));
    expect(await rewards({ response_id: target.response_id })).toHaveLength(1);
  });
});

describe('preferences from ratings', () => {
  const answers = Array.from({ length: 8 }, () => response({ prompt: 'Rate me.' }));
  beforeAll(async () => {
    projectId = await system.project();
    await system.known(projectId, ...answers);
  });

  it('pairs one person’s good and bad answers to one prompt, four at most, and follows what is taken back', async () => {
    const stars = [5, 4, 3, 2, 1, 5, 1, 4];
    const items = answers.map((item, i) => ({
      kind: 'stars',
      value: stars[i],
      response_id: item.response_id,
      user_id: 'ann',
      synthetic: true,
    }));
    const answer = await system.call<{ accepted: number; results: { feedback: Outcome }[] }>(
      createFeedbackBatch,
      { body: { items } },
      { projectId },
    );
    expect(answer.body.accepted).toBe(8);
    const pairs = await preferences();
    expect(pairs).toHaveLength(4);
    for (const pair of pairs) {
      const starsOf = (id: string) => stars[answers.findIndex((item) => item.response_id === id)]!;
      expect(starsOf(pair.chosen_response_id)).toBeGreaterThanOrEqual(4);
      expect(starsOf(pair.rejected_response_id)).toBeLessThanOrEqual(2);
      expect(pair.margin).toBe((starsOf(pair.chosen_response_id) - starsOf(pair.rejected_response_id)) / 2);
      expect(pair).toMatchObject({ synthetic: true, source: 'ratings', rater: 'ann' });
    }
    // Four pairs use all four good answers.
    expect(new Set(pairs.map((pair) => pair.chosen_response_id)).size).toBe(4);

    const best = answer.body.results[0]!.feedback.id;
    const deleted = await system.call(deleteFeedback, { params: { id: best } }, { projectId });
    expect(deleted.status).toBe(200);
    const left = await preferences();
    expect(left.flatMap((pair) => pair.feedback_ids)).not.toContain(best);
    expect(left).toHaveLength(4);
  });

  it('are found when both ratings come at the same moment', async () => {
    const prompts = Array.from({ length: 24 }, (_, i) => [
      response({ prompt: `At once ${i}` }),
      response({ prompt: `At once ${i}` }),
    ]);
    await system.known(projectId, ...prompts.flat());
    const outcomes = await Promise.all(
      prompts.map(async ([good, bad]) => {
        const rate = (value: number, response_id: string) =>
          post({ kind: 'stars', value, response_id, user_id: 'ann' });
        const both = await Promise.all([rate(5, good!.response_id), rate(1, bad!.response_id)]);
        return both.flatMap(({ preference_ids }) => preference_ids).length;
      }),
    );
    expect(outcomes).toEqual(prompts.map(() => 1));
  });

  it('never pairs two people, two kinds, or two prompts', async () => {
    const before = await preferences();
    const [a, b] = [response({ prompt: 'P' }), response({ prompt: 'P' })];
    const q = response({ prompt: 'Q' });
    await system.known(projectId, a, b, q);
    await post({ kind: 'stars', value: 5, response_id: a.response_id, user_id: 'cat' });
    await post({ kind: 'stars', value: 1, response_id: b.response_id, user_id: 'dan' });
    await post({ kind: 'thumbs', value: 'down', response_id: b.response_id, user_id: 'cat' });
    await post({ kind: 'stars', value: 1, response_id: q.response_id, user_id: 'cat' });
    await post({ kind: 'stars', value: 1, response_id: b.response_id });
    expect(await preferences()).toEqual(before);
    const last = await post({ kind: 'stars', value: 2, response_id: b.response_id, user_id: 'cat' });
    expect(last.preference_ids).toHaveLength(1);
  });

  it('follows the project’s own thresholds, weights and cap', async () => {
    projectId = await system.project({
      feedback: { dimension_weights: { wit: 3, truth: 1 }, chosen_min_stars: 3, max_pairs_per_prompt: 1 },
    });
    const own = [response(), response(), response()];
    await system.known(projectId, ...own);
    const scored = await post({
      kind: 'dimensions',
      dimensions: { wit: 1, truth: -1 },
      response_id: own[0]!.response_id,
    });
    expect(scored.score).toBe(0.5);
    for (const [i, value] of [3, 1, 1].entries()) {
      await post({ kind: 'stars', value, response_id: own[i]!.response_id, user_id: 'ann' });
    }
    expect(await preferences()).toHaveLength(1);
  });
});

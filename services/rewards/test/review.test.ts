import { createFeedback, createFeedbackBatch, deleteFeedback } from '@tuneloop/contracts/rewards/http';
import { getNextReview, type ReviewItem, skipReview, unskipReview } from '@tuneloop/contracts/rewards/review';
import { responseDeleted } from '@tuneloop/contracts/responses/events';
import { newId } from '@tuneloop/runtime/ids';
import { eventually } from '@tuneloop/testkit/eventually';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { response, type RewardsUnderTest, startRewards } from './rewardsUnderTest.ts';

let system: RewardsUnderTest;
beforeAll(async () => {
  system = await startRewards();
});
afterAll(() => system.stop());

const reviewer = (projectId: string, subject: string) =>
  ({ projectId, subject, role: 'reviewer', scopes: ['read', 'feedback'] }) as const;
type Reviewer = ReturnType<typeof reviewer>;

async function next(as: Reviewer, exclude?: string): Promise<ReviewItem | null> {
  const query: Record<string, string> = exclude === undefined ? {} : { exclude };
  const answer = await system.call<{ item: ReviewItem | null }>(getNextReview, { query }, as);
  expect(answer.status).toBe(200);
  return answer.body.item;
}

async function judge(as: Reviewer, item: ReviewItem, value = 'a'): Promise<string> {
  const [a, b] = item.answers;
  const answer = await system.call<{ id: string }>(
    createFeedback,
    {
      body: {
        kind: 'ab',
        value,
        response_id: a.response_id,
        other_response_id: b.response_id,
        user_id: as.subject,
      },
    },
    as,
  );
  expect(answer.status).toBe(201);
  return answer.body.id;
}

/** A prompt with one answer a text. */
function prompt(texts: readonly string[], fields: Parameters<typeof response>[0] = {}) {
  const prompt_id = newId();
  return texts.map((response_text) => response({ prompt_id, response_text, ...fields }));
}

describe('GET /api/v1/review/next', () => {
  it('asks about prompts with two distinct answers that people may compare, and about no others', async () => {
    const projectId = await system.project();
    const image_id = newId();
    const good = prompt(['A red mug.', 'A red mug.', 'A mug.'], { image_id, category: 'kitchen', prompt: 'Item: mug' });
    await system.known(
      projectId,
      ...good,
      ...prompt(['Only one.']),
      ...prompt(['The same.', ' The same. ']),
      ...prompt(['x', '  ']),
      ...prompt(['before', 'after'], { purpose: 'evaluation' }),
      ...prompt(['old', 'older'], { purpose: 'imported' }),
    );
    const ann = reviewer(projectId, 'ann');
    const item = await next(ann);
    expect(item).toMatchObject({
      id: good[0]!.prompt_id,
      prompt: 'Item: mug',
      image_id,
      image_url: `/api/v1/images/${image_id}/content`,
      category: 'kitchen',
      remaining: 1,
      reviewer: 'ann',
    });
    expect(item!.answers.map(({ text }) => text).toSorted()).toEqual(['A mug.', 'A red mug.']);
    expect(item!.guideline).not.toBe('');
    await judge(ann, item!);
    expect(await next(ann)).toBeNull();
  });

  it('draws the order for each reviewer and keeps it', async () => {
    const projectId = await system.project();
    await system.known(projectId, ...prompt(['One.', 'Two.']));
    const shown = new Map<string, string>();
    for (let n = 0; n < 24; n++) {
      const item = await next(reviewer(projectId, `r${n}`));
      shown.set(`r${n}`, item!.answers[0].text);
    }
    expect(new Set(shown.values())).toEqual(new Set(['One.', 'Two.']));
    for (const [subject, first] of shown) {
      expect((await next(reviewer(projectId, subject)))!.answers[0].text).toBe(first);
    }
  });

  it('asks about what has been judged least, and follows what is taken back or said again', async () => {
    const projectId = await system.project();
    await system.known(projectId, ...prompt(['1a', '1b']), ...prompt(['2a', '2b']));
    const ann = reviewer(projectId, 'ann');
    const bob = reviewer(projectId, 'bob');
    const cat = reviewer(projectId, 'cat');
    const first = (await next(ann))!;
    const said = await judge(ann, first);
    await judge(ann, first, 'tie');
    const second = (await next(bob))!;
    expect(second.id).not.toBe(first.id);
    expect(second.remaining).toBe(2);
    await judge(bob, second);
    const again = await judge(cat, second);
    expect((await next(reviewer(projectId, 'dan')))!.id).toBe(first.id);
    const gone = await system.call(deleteFeedback, { params: { id: said } }, ann);
    expect(gone.status).toBe(404);
    expect((await system.call(deleteFeedback, { params: { id: again } }, cat)).status).toBe(200);
    // Now each has been judged once; the one taken back is asked of its reviewer again.
    const counts = await system.sql<{ judged: number }>(
      'SELECT judged FROM rewards.review_items WHERE project_id = $1',
      [projectId],
    );
    expect(counts.map(({ judged }) => judged)).toEqual([1, 1]);
    const open = [(await next(cat))!.id, (await next(cat, (await next(cat))!.id))!.id];
    expect(new Set(open)).toEqual(new Set([first.id, second.id]));
  });

  it('counts judgements that come in batches at the same time', async () => {
    const projectId = await system.project();
    const prompts = Array.from({ length: 6 }, (_, n) => prompt([`${n}a`, `${n}b`]));
    await system.known(projectId, ...prompts.flat());
    const items = prompts.map(([a, b]) => ({
      kind: 'ab',
      value: 'a',
      response_id: a!.response_id,
      other_response_id: b!.response_id,
    }));
    const batches = Array.from({ length: 6 }, (_, n) =>
      system.call<{ accepted: number }>(
        createFeedbackBatch,
        { body: { items: n % 2 === 0 ? items : items.toReversed() } },
        reviewer(projectId, `r${n}`),
      ),
    );
    for (const answer of await Promise.all(batches)) expect(answer.body.accepted).toBe(6);
    const counts = await system.sql<{ judged: number }>(
      'SELECT judged FROM rewards.review_items WHERE project_id = $1',
      [projectId],
    );
    expect(counts.map(({ judged }) => judged)).toEqual([6, 6, 6, 6, 6, 6]);
  });

  it('leaves out what the page holds back, and what was skipped until that is taken back', async () => {
    const projectId = await system.project();
    await system.known(projectId, ...prompt(['1a', '1b']), ...prompt(['2a', '2b']));
    const ann = reviewer(projectId, 'ann');
    const first = (await next(ann))!;
    const second = (await next(ann, first.id))!;
    expect(second).toMatchObject({ remaining: 1 });
    expect(second.id).not.toBe(first.id);
    for (const _ of [1, 2]) {
      const skipped = await system.call(skipReview, { body: { id: first.id } }, ann);
      expect(skipped).toMatchObject({ status: 200, body: { id: first.id, skipped: true } });
    }
    expect((await next(ann))!.id).toBe(second.id);
    expect((await next(reviewer(projectId, 'bob')))!.id).toBe(first.id);
    const back = await system.call(unskipReview, { params: { id: first.id } }, ann);
    expect(back).toMatchObject({ status: 200, body: { skipped: false } });
    expect((await next(ann))!.id).toBe(first.id);
  });

  it('drops a prompt whose answers were deleted, and takes it up again with a new one', async () => {
    const projectId = await system.project();
    const pair = prompt(['1a', '1b']);
    await system.known(projectId, ...pair);
    const ann = reviewer(projectId, 'ann');
    expect(await next(ann)).not.toBeNull();
    const { response_id } = pair[0]!;
    await system.publish(responseDeleted, projectId, {
      subject: response_id,
      data: { response_id, version: 2, reason: 'deleted' },
    });
    await eventually(async () => (await next(ann)) === null);
    await system.known(projectId, response({ prompt_id: pair[0]!.prompt_id, response_text: '1b' }));
    expect(await next(ann)).toBeNull();
    await system.known(projectId, response({ prompt_id: pair[0]!.prompt_id, response_text: '1a' }));
    expect((await next(ann))!.answers.map(({ text }) => text).toSorted()).toEqual(['1a', '1b']);
  });

  it("shows the project's own guideline", async () => {
    const projectId = await system.project({ feedback: { guideline: 'Prefer the plain one.' } });
    await system.known(projectId, ...prompt(['1a', '1b']));
    expect(await next(reviewer(projectId, 'ann'))).toMatchObject({ guideline: 'Prefer the plain one.' });
  });

  it('keeps projects apart, and needs the right to give feedback', async () => {
    const projectId = await system.project();
    await system.known(projectId, ...prompt(['1a', '1b']));
    const item = (await next(reviewer(projectId, 'ann')))!;
    const stranger = reviewer(await system.project(), 'ann');
    expect(await next(stranger)).toBeNull();
    const skipped = await system.call(skipReview, { body: { id: item.id } }, stranger);
    expect(skipped).toMatchObject({ status: 404, body: { code: 'rewards.review.item_not_found' } });
    const viewer = await system.call(getNextReview, {}, { projectId, scopes: ['read'] });
    expect(viewer.status).toBe(403);
  });

  it.each([
    [getNextReview, { query: { exclude: 'x' } }, 'exclude'],
    [skipReview, { body: {} }, 'id'],
    [skipReview, { body: { id: 7 } }, 'id'],
    [unskipReview, { params: { id: 'x' } }, 'id'],
  ])('names the field that is wrong: %#', async (contract, input, field) => {
    const answer = await system.call<{ errors: { field: string }[] }>(contract, input, reviewer(newId(), 'ann'));
    expect(answer.status).toBe(400);
    expect(answer.body.errors[0]!.field).toContain(field);
  });
});

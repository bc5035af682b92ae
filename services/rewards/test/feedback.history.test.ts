import type { FeedbackKind } from '@tuneloop/contracts/rewards/events';
import { createFeedbackBatch, deleteFeedback } from '@tuneloop/contracts/rewards/http';
import { snapshotPreferences, snapshotRewards } from '@tuneloop/contracts/rewards/internal';
import { newId } from '@tuneloop/runtime/ids';
import { eventually } from '@tuneloop/testkit/eventually';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { pairRatings, type Rating } from '../src/domain/pairs.ts';
import { rulesOf } from '../src/domain/rules.ts';
import { response, type RewardsUnderTest, startRewards } from './rewardsUnderTest.ts';

const RUNS = 12;
const ANSWERS = 4;
const START = Date.UTC(2026, 0, 1);

let system: RewardsUnderTest;
beforeAll(async () => {
  system = await startRewards();
});
afterAll(() => system.stop());

/** One thing that happens: somebody rates, over HTTP or (perhaps several times) over NATS, or takes a rating back. */
interface Step {
  readonly user: string;
  readonly answer: number;
  readonly kind: 'stars' | 'thumbs';
  readonly good: boolean;
  /** When it was said, in minutes; arrival has its own order. */
  readonly minute: number;
  readonly door: 'http' | 'nats';
  readonly deliveries: number;
  readonly takenBack: boolean;
}

const anyStep: fc.Arbitrary<Step> = fc.record({
  user: fc.constantFrom('ann', 'bob', 'anonymous'),
  answer: fc.nat(ANSWERS - 1),
  kind: fc.constantFrom('stars', 'thumbs'),
  good: fc.boolean(),
  minute: fc.nat(10_000),
  door: fc.constantFrom('http', 'nats'),
  deliveries: fc.integer({ min: 1, max: 3 }),
  takenBack: fc.boolean(),
});

const valueOf = ({ kind, good }: Step) => (kind === 'stars' ? (good ? 5 : 2) : good ? 'up' : 'down');
const scoreOf = ({ kind, good }: Step) => (kind === 'stars' ? (good ? 1 : -0.5) : good ? 1 : -1);
const saidAt = (step: Step) => new Date(START + step.minute * 60_000).toISOString();

it('any history of feedback, delivered in any order and more than once, counts each rating once', async () => {
  let histories = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.uniqueArray(anyStep, { minLength: 1, maxLength: 14, selector: ({ minute }) => minute }),
      async (steps) => {
        const projectId = await system.project();
        const answers = Array.from({ length: ANSWERS }, () => response());
        await system.known(projectId, ...answers);
        await play(
          projectId,
          steps,
          answers.map((item) => item.response_id),
        );
        await check(
          projectId,
          steps,
          answers.map((item) => item.response_id),
        );
        histories++;
      },
    ),
    { numRuns: RUNS, seed: 20_261_121 },
  );
  expect(histories).toBe(RUNS);
});

async function play(projectId: string, steps: readonly Step[], answers: readonly string[]): Promise<void> {
  const overNats = steps.filter(({ door }) => door === 'nats');
  for (const step of overNats) {
    for (let copy = 0; copy < step.deliveries; copy++) {
      const body = {
        id: String(step.minute),
        source: '/history',
        response_id: answers[step.answer],
        kind: step.kind,
        value: valueOf(step),
        user_id: step.user,
        collected_at: saidAt(step),
      };
      const headers = { 'Nats-Msg-Id': newId() };
      await system.bus.publish(`ext.${projectId}.feedback.submitted.v1`, JSON.stringify(body), headers);
    }
  }
  const items = steps
    .filter(({ door }) => door === 'http')
    .map((step) => ({
      response_id: answers[step.answer],
      kind: step.kind,
      value: valueOf(step),
      user_id: step.user,
      created_at: saidAt(step),
    }));
  // Two requests at the same time as the messages.
  const half = Math.ceil(items.length / 2);
  const batches = [items.slice(0, half), items.slice(half)].filter((batch) => batch.length > 0);
  const headers = { 'idempotency-key': newId() };
  await Promise.all(
    batches.flatMap((batch, i) => {
      const as = { projectId, headers: { 'idempotency-key': `${headers['idempotency-key']}-${i}` } };
      const send = async () => {
        const answer = await system.call<{ accepted: number }>(createFeedbackBatch, { body: { items: batch } }, as);
        expect(answer.body.accepted).toBe(batch.length);
      };
      return [send(), send()];
    }),
  );
  await eventually(async () => (await storedFeedback(projectId)).length === steps.length);
  for (const step of steps.filter(({ takenBack }) => takenBack)) {
    const stored = (await storedFeedback(projectId)).find((row) => row.minute === step.minute);
    const answer = await system.call(deleteFeedback, { params: { id: stored?.id ?? '' } }, { projectId });
    expect(answer.status).toBe(stored?.status === 'active' ? 200 : 404);
  }
}

interface StoredFeedback {
  id: string;
  status: string;
  minute: number;
}

async function storedFeedback(projectId: string): Promise<StoredFeedback[]> {
  const rows = await system.sql<{ id: string; status: string; created_at: Date }>(
    'SELECT id, status, created_at FROM rewards.feedback WHERE project_id = $1',
    [projectId],
  );
  return rows.map(({ id, status, created_at }) => ({ id, status, minute: (created_at.getTime() - START) / 60_000 }));
}

/** What must count, worked out from the whole history at once. */
function expected(steps: readonly Step[]): Step[] {
  const nobody = steps.filter(({ user }) => user === 'anonymous');
  const rated = steps.filter(({ user }) => user !== 'anonymous');
  const groups = Map.groupBy(rated, ({ user, answer, kind }) => `${user} ${answer} ${kind}`);
  const latest = [...groups.values()].map((group) => group.reduce((a, b) => (b.minute > a.minute ? b : a)));
  return [...nobody, ...latest].filter(({ takenBack }) => !takenBack);
}

async function check(projectId: string, steps: readonly Step[], answers: readonly string[]): Promise<void> {
  const counting = expected(steps);
  const feedback = new Map((await storedFeedback(projectId)).map((row) => [row.minute, row.id]));
  const rewards = (await system.call<Page<Reward>>(snapshotRewards, {}, { projectId })).body.data;
  const tell = (responseId: string, score: number, id: string) => `${responseId} ${score} ${id}`;
  expect(rewards.map((row) => tell(row.response_id, row.score, row.feedback_id)).toSorted(byText)).toEqual(
    counting
      .map((step) => tell(answers[step.answer] ?? '', scoreOf(step), feedback.get(step.minute) ?? ''))
      .toSorted(byText),
  );

  const ratings = counting
    .filter(({ user }) => user !== 'anonymous')
    .map(
      (step): Rating => ({
        feedbackId: feedback.get(step.minute) ?? '',
        responseId: answers[step.answer] ?? '',
        promptKey: 'one',
        kind: step.kind,
        score: scoreOf(step),
        rater: step.user,
        synthetic: false,
        createdAt: new Date(saidAt(step)),
      }),
    );
  const pairs = pairRatings(ratings, rulesOf(undefined));
  const preferences = (await system.call<Page<Preference>>(snapshotPreferences, {}, { projectId })).body.data;
  expect(preferences.map((row) => row.feedback_ids.join('>')).toSorted(byText)).toEqual(
    pairs.map(({ chosen, rejected }) => `${chosen.feedbackId}>${rejected.feedbackId}`).toSorted(byText),
  );
  await checkAnnouncements(projectId, steps.length, rewards, preferences);
}

/** A reader that keeps the highest version of each aggregate ends with the same rewards and preferences. */
async function checkAnnouncements(
  projectId: string,
  received: number,
  rewards: readonly Reward[],
  preferences: readonly Preference[],
): Promise<void> {
  const told = new Map<string, { version: number; counts: boolean }>();
  let feedback = 0;
  for (const { type, data } of await system.announced(projectId)) {
    if (type === 'feedback.received') feedback++;
    const id = data.reward_id ?? data.preference_id;
    if (typeof id !== 'string' || typeof data.version !== 'number') continue;
    expect(Math.abs(typeof data.score === 'number' ? data.score : 0)).toBeLessThanOrEqual(1);
    const before = told.get(id);
    expect(data.version).toBe((before?.version ?? 0) + 1);
    told.set(id, { version: data.version, counts: type.endsWith('.recorded') });
  }
  expect(feedback).toBe(received);
  const counted = [...told].filter(([, { counts }]) => counts).map(([id]) => id);
  const ids = [...rewards.map((row) => row.reward_id), ...preferences.map((row) => row.preference_id)];
  expect(counted.toSorted(byText)).toEqual(ids.toSorted(byText));
}

function byText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

interface Page<T> {
  data: T[];
}
interface Reward {
  reward_id: string;
  response_id: string;
  feedback_id: string;
  kind: FeedbackKind;
  score: number;
}
interface Preference {
  preference_id: string;
  feedback_ids: string[];
}

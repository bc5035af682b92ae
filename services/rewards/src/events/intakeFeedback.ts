import { intakeFeedback } from '@tuneloop/contracts/ingest/events';
import { feedbackInput, type FeedbackInput } from '@tuneloop/contracts/rewards/http';
import { AppError } from '@tuneloop/runtime/errors';
import { defineIntake } from '@tuneloop/runtime/inbox/intake';
import { fieldErrors } from '@tuneloop/runtime/zodIssues';
import type { z } from 'zod';
import type { RewardsContext } from '../config.ts';
import { saidAt } from '../domain/feedback.ts';
import { isSomebody } from '../domain/rater.ts';
import { withOwnersAsked } from '../usecases/askOwners.ts';
import { recordFeedback } from '../usecases/recordFeedback.ts';

/** Feedback that outside publishers submit over NATS: the same rules as over HTTP. */
export const onFeedbackSubmitted = defineIntake<typeof intakeFeedback, RewardsContext>({
  name: 'intake_feedback',
  kind: 'feedback',
  schema: intakeFeedback,
  handle: async (tx, { data, projectId }, ctx) => {
    const input = inputOf(data);
    const command = {
      input,
      rater: { userId: input.user_id, known: isSomebody(input.user_id) },
      saidAt: saidAt(data.collected_at, ctx.clock()),
    };
    const [result] = await withOwnersAsked(
      ctx,
      projectId,
      (absent) => recordFeedback(tx, [command], absent),
      (work) => work(tx),
    );
    if (result?.error) throw result.error;
  },
});

/** Kinds whose value is words. */
const WORDS = { comment: 'comment', report: 'reason' } as const;

function inputOf(data: z.output<typeof intakeFeedback>): FeedbackInput {
  const { id, source, kind, value, metadata } = data;
  const input = {
    response_id: data.response_id,
    kind,
    ...(kind === 'comment' || kind === 'report' ? { [WORDS[kind]]: value } : { value }),
    ...(data.comment === undefined || kind === 'comment' ? {} : { comment: data.comment }),
    ...(data.user_id === undefined || data.user_id === '' ? {} : { user_id: data.user_id }),
    synthetic: metadata?.synthetic === true,
    metadata: { ...metadata, intake: { id, source } },
  };
  const result = feedbackInput.safeParse(input);
  if (result.success) return result.data;
  const [first] = fieldErrors(result.error, input, 'value');
  const field = first?.field === 'comment' || first?.field === 'reason' ? 'value' : (first?.field ?? 'value');
  throw new AppError({
    code: 'intake.invalid',
    status: 400,
    retry: false,
    message: `${field} ${first?.message}`,
    field,
  });
}

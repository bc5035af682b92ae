import {
  createFeedback,
  createFeedbackBatch,
  feedbackInput,
  type FeedbackInput,
} from '@tuneloop/contracts/rewards/http';
import type { Auth } from '@tuneloop/runtime/auth/auth';
import { AppError } from '@tuneloop/runtime/errors';
import type { HttpApp } from '@tuneloop/runtime/http/app';
import { mountRoute } from '@tuneloop/runtime/http/mountRoute';
import { fieldErrors } from '@tuneloop/runtime/zodIssues';
import type { RewardsContext } from '../config.ts';
import { saidAt } from '../domain/feedback.ts';
import { raterOf } from '../domain/rater.ts';
import { withOwnersAsked } from '../usecases/askOwners.ts';
import { type FeedbackCommand, type FeedbackResult, recordFeedback } from '../usecases/recordFeedback.ts';

/** `POST /api/v1/feedback`: the hot path. What the projection has not seen yet is asked for outside the transaction. */
export function mountCreateFeedback(app: HttpApp, ctx: RewardsContext): void {
  mountRoute(
    app,
    ctx,
    createFeedback,
    async ({ auth, body, idempotent, tenant }) => {
      const command = commandOf(auth, body, ctx.clock());
      const record = (absent: ReadonlySet<string>) =>
        idempotent(async (tx) => {
          const [result] = await recordFeedback(tx, [command], absent);
          if (result!.error) throw result!.error;
          return result!.outcome;
        });
      return withOwnersAsked(ctx, auth.projectId, record, tenant);
    },
    { transaction: false },
  );
}

/** `POST /api/v1/feedback/batch`: one transaction; each item is taken or refused by itself. */
export function mountCreateFeedbackBatch(app: HttpApp, ctx: RewardsContext): void {
  mountRoute(
    app,
    ctx,
    createFeedbackBatch,
    async ({ auth, body, idempotent, tenant }) => {
      const now = ctx.clock();
      const parsed = body.items.map((item) => parseItem(auth, item, now));
      const commands = parsed.filter((item): item is FeedbackCommand => !(item instanceof AppError));
      const record = (absent: ReadonlySet<string>) =>
        idempotent(async (tx) => {
          const results = commands.length === 0 ? [] : await recordFeedback(tx, commands, absent);
          const byCommand = new Map(commands.map((command, i) => [command, results[i]!]));
          return answerOf(parsed.map((item) => (item instanceof AppError ? { error: item } : byCommand.get(item)!)));
        });
      return withOwnersAsked(ctx, auth.projectId, record, tenant);
    },
    { transaction: false },
  );
}

function commandOf(auth: Auth, input: FeedbackInput, now: Date): FeedbackCommand {
  return { input, rater: raterOf(auth, input.user_id), saidAt: saidAt(input.created_at, now) };
}

function parseItem(auth: Auth, item: unknown, now: Date): FeedbackCommand | AppError {
  const result = feedbackInput.safeParse(item);
  if (!result.success) {
    const [first] = fieldErrors(result.error, item, 'item');
    const field = first?.field ?? 'item';
    return new AppError({ code: 'request.invalid', status: 400, message: `${field} ${first?.message}`, field });
  }
  try {
    return commandOf(auth, result.data, now);
  } catch (error) {
    if (error instanceof AppError) return error;
    throw error;
  }
}

function answerOf(results: readonly FeedbackResult[]) {
  const accepted = results.filter((result) => result.error === undefined).length;
  return {
    accepted,
    rejected: results.length - accepted,
    results: results.map(({ outcome, error }, index) => ({
      index,
      feedback: outcome ?? null,
      error: error
        ? { status: error.status, code: error.code, message: error.message, field: error.field ?? null }
        : null,
    })),
  };
}

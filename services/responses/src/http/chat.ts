import { createChatCompletion } from '@tuneloop/contracts/responses/http';
import { describeError } from '@tuneloop/runtime/errors';
import type { HttpApp } from '@tuneloop/runtime/http/app';
import { toAppError } from '@tuneloop/runtime/http/errorMapping';
import { errorBody } from '@tuneloop/runtime/http/errorShape';
import { mountRoute } from '@tuneloop/runtime/http/mountRoute';
import { immutableName } from '../domain/target.ts';
import { type ChatDependencies, ChatCompletionRun } from '../egress/chatCompletion.ts';
import { eventStream } from '../sse.ts';

/** No transaction around it: a generation takes seconds, and opens two short ones of its own. */
export function mountChat(app: HttpApp, deps: ChatDependencies): void {
  mountRoute(
    app,
    deps.ctx,
    createChatCompletion,
    async ({ body, auth, signal, correlationId, raw, reply, log }) => {
      const run = await ChatCompletionRun.begin(deps, { body, auth, signal, correlationId });
      void reply.header('tuneloop-model', immutableName(run.target)).header('tuneloop-slot', run.target.slot);
      if (!body.stream) {
        const answer = await run.complete();
        void reply.header('tuneloop-recorded', String(answer.tuneloop.recorded));
        return answer;
      }
      const stream = await eventStream(run.stream(), (error) => {
        log.warn({ reason: describeError(error) }, 'a stream ended with an error');
        return errorBody(toAppError(error), 'openai', raw.id).body;
      });
      void reply.type('text/event-stream; charset=utf-8').header('cache-control', 'no-cache');
      return stream;
    },
    { transaction: false },
  );
}

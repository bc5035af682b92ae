import { createPrompt, getPrompt, listPrompts, MAX_PROMPT_RESPONSES } from '@tuneloop/contracts/responses/http';
import { notFound } from '@tuneloop/runtime/errors';
import type { HttpApp } from '@tuneloop/runtime/http/app';
import { mountRoute } from '@tuneloop/runtime/http/mountRoute';
import { newId } from '@tuneloop/runtime/ids';
import type { Tx } from '@tuneloop/runtime/pg/database';
import { projectSettings } from '@tuneloop/runtime/projects';
import type { ResponsesContext } from '../context.ts';
import { promptGroup, seedOf } from '../domain/hashes.ts';
import { requestCandidates } from '../prompts.ts';
import * as store from '../store/prompts.ts';
import { listResponsesOfPrompts } from '../store/responses.ts';
import { idCursor } from './cursor.ts';

export function mountPrompts(app: HttpApp, ctx: ResponsesContext, wake: () => void): void {
  mountRoute(app, ctx, listPrompts, async ({ query, tx }) => {
    const { limit, cursor, session_id, image_id, category, status } = query;
    const rows = await store.listPrompts(tx, { session_id, image_id, category, status }, idCursor(cursor), limit);
    return { data: await withResponses(tx, rows), next_cursor: rows.length === limit ? rows.at(-1)!.id : null };
  });

  mountRoute(app, ctx, getPrompt, async ({ params, tx }) => {
    const row = await store.findPrompt(tx, params.id);
    if (!row) throw notFound('responses.prompt.not_found', `There is no prompt ${params.id}`);
    const [prompt] = await withResponses(tx, [row]);
    return prompt!;
  });

  mountRoute(app, ctx, createPrompt, async ({ body, tx, correlationId }) => {
    const settings = await projectSettings(tx, ctx);
    const { candidates, user_id, ...fields } = body;
    const id = newId();
    const row = await requestCandidates(tx, settings, {
      ...fields,
      id,
      image_id: null,
      user_id: user_id ?? settings.default_user_id,
      group_key: promptGroup(body.text),
      template_category: null,
      template_version: null,
      candidates: candidates ?? settings.candidates,
      // Asked again, the same prompt gets other answers.
      seed: seedOf(id, body.text),
      correlation_id: correlationId ?? null,
      causation_id: null,
    });
    tx.afterCommit(wake);
    const [prompt] = await withResponses(tx, [row!]);
    return prompt!;
  });
}

async function withResponses(tx: Tx, rows: readonly store.PromptRow[]) {
  const responses = await listResponsesOfPrompts(
    tx,
    rows.map((row) => row.id),
    MAX_PROMPT_RESPONSES,
  );
  const byPrompt = Map.groupBy(responses, (response) => response.prompt_id);
  return rows.map((row) => ({
    id: row.id,
    text: row.text,
    system: row.system,
    image_id: row.image_id,
    session_id: row.session_id,
    category: row.category,
    brand: row.brand,
    task: row.task,
    facts: row.facts,
    group_key: row.group_key,
    template_version: row.template_version,
    status: row.status,
    reason: row.reason,
    candidates: row.candidates,
    created_at: row.created_at,
    responses: (byPrompt.get(row.id) ?? []).map(
      ({ id, response_text, model_id, checkpoint_id, purpose, created_at }) => ({
        id,
        response_text,
        model_id,
        checkpoint_id,
        purpose,
        created_at,
      }),
    ),
  }));
}

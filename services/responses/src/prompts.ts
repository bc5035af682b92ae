import type { Tx } from '@tuneloop/runtime/pg/database';
import type { ProjectSettings } from '@tuneloop/runtime/projects';
import { insertGenerationJob } from './store/generationJobs.ts';
import { countSessionCandidates, insertPrompt, type NewPrompt, type PromptRow } from './store/prompts.ts';

export type PromptRequest = Omit<NewPrompt, 'status' | 'reason'>;

/**
 * Stores a prompt and asks for its candidates, as many as the session's cap leaves. Undefined when the picture has its
 * prompt already.
 */
export async function requestCandidates(
  tx: Tx,
  settings: ProjectSettings,
  request: PromptRequest,
): Promise<PromptRow | undefined> {
  const candidates = await allowed(tx, settings, request);
  const reason = skipReason(request, candidates);
  const prompt = await insertPrompt(tx, {
    ...request,
    // A prompt without answers still says how many were wanted.
    candidates: reason === null ? candidates : request.candidates,
    status: reason === null ? 'pending' : 'skipped',
    reason,
  });
  if (prompt && reason === null) await insertGenerationJob(tx, prompt.id);
  return prompt;
}

async function allowed(tx: Tx, settings: ProjectSettings, request: PromptRequest): Promise<number> {
  if (request.session_id === null) return request.candidates;
  const used = await countSessionCandidates(tx, request.session_id);
  return Math.max(0, Math.min(request.candidates, settings.max_generations_per_session - used));
}

function skipReason(request: PromptRequest, candidates: number): string | null {
  if (request.text === '') return 'The template gives no text for this picture.';
  return candidates === 0 ? "The session has reached the project's cap on generated answers." : null;
}

import type { FeedbackInput } from '@tuneloop/contracts/rewards/http';
import type { Tx } from '@tuneloop/runtime/pg/database';
import type { ProjectSettings } from '@tuneloop/runtime/projects';
import { findResponsesByCompletion, type KnownResponse, lockResponses } from '../store/responses.ts';

/** How feedback names an answer. */
export type ResponseRef = { readonly responseId: string } | { readonly completionId: string; readonly choice: number };

export function refKey(ref: ResponseRef): string {
  return 'responseId' in ref ? ref.responseId : `${ref.completionId}#${ref.choice}`;
}

/**
 * Thrown before anything is written: the projection lags behind what the caller knows. `askOwners` fetches what is
 * missing; then the work is tried again.
 */
export class NotProjectedYet extends Error {
  override readonly name = 'NotProjectedYet';
  readonly refs: readonly ResponseRef[];
  readonly project: boolean;

  constructor(refs: readonly ResponseRef[], project: boolean) {
    super('the projection has not seen all of it yet');
    this.refs = refs;
    this.project = project;
  }
}

export interface ResolvedResponses {
  /** By `refKey`. Deleted and unknown answers are not among them. */
  readonly byRef: ReadonlyMap<string, KnownResponse>;
  /** Null only when no answer was found. */
  readonly settings: ProjectSettings | null;
}

export interface ResolveOptions {
  /** `refKey`s that the owner has been asked about and does not know. */
  readonly absent: ReadonlySet<string>;
  readonly lockPrompts: boolean;
}

/**
 * Finds and holds the answers that feedback is about.
 * @throws NotProjectedYet for answers, or a project, that the projection has not seen and the owner has not denied.
 */
export async function resolveResponses(
  tx: Tx,
  refs: readonly ResponseRef[],
  options: ResolveOptions,
): Promise<ResolvedResponses> {
  const ids = await idsOf(tx, refs);
  const { responses, settings } = await lockResponses(tx, [...new Set(ids.values())], options.lockPrompts);
  const byId = new Map(responses.map((response) => [response.id, response]));
  const byRef = new Map<string, KnownResponse>();
  const missing: ResponseRef[] = [];
  for (const ref of refs) {
    const key = refKey(ref);
    const response = byId.get(ids.get(key) ?? '');
    if (response === undefined) {
      if (!options.absent.has(key)) missing.push(ref);
    } else if (!response.deleted) byRef.set(key, response);
  }
  const projectMissing = settings === null && responses.length > 0;
  if (missing.length > 0 || projectMissing) throw new NotProjectedYet(missing, projectMissing);
  return { byRef, settings };
}

async function idsOf(tx: Tx, refs: readonly ResponseRef[]): Promise<Map<string, string>> {
  const ids = new Map<string, string>();
  const completions: { completion_id: string; choice: number }[] = [];
  for (const ref of refs) {
    if ('responseId' in ref) ids.set(ref.responseId, ref.responseId);
    else completions.push({ completion_id: ref.completionId, choice: ref.choice });
  }
  if (completions.length === 0) return ids;
  for (const row of await findResponsesByCompletion(tx, completions)) {
    ids.set(refKey({ completionId: row.completion_id, choice: row.choice }), row.id);
  }
  return ids;
}

/** The answer that feedback is about. */
export function refOf(input: FeedbackInput): ResponseRef {
  return input.response_id === undefined
    ? { completionId: input.completion_id ?? '', choice: input.choice }
    : { responseId: input.response_id.toLowerCase() };
}

/** The other side of an A/B comparison. */
export function otherRefOf(input: FeedbackInput): ResponseRef | null {
  if (input.kind !== 'ab') return null;
  return input.other_response_id === undefined
    ? { completionId: input.other_completion_id ?? '', choice: input.other_choice }
    : { responseId: input.other_response_id.toLowerCase() };
}

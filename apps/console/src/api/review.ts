import type { ReviewItem } from '@tuneloop/contracts/rewards/review';
import { send, sendJson } from './http.ts';

export type Verdict = 'a' | 'b' | 'tie' | 'both_bad' | 'cant_tell';

/** Body of `POST /api/v1/feedback` for one comparison. */
export interface Judgement {
  readonly kind: 'ab';
  readonly value: Verdict;
  readonly response_id: string;
  readonly other_response_id: string;
  readonly user_id: string;
  readonly metadata: { readonly surface: 'review'; readonly item_id: string };
}

export function judgementOf(item: ReviewItem, value: Verdict): Judgement {
  const [a, b] = item.answers;
  return {
    kind: 'ab',
    value,
    response_id: a.response_id,
    other_response_id: b.response_id,
    user_id: item.reviewer,
    metadata: { surface: 'review', item_id: item.id },
  };
}

export async function fetchNext(
  key: string,
  exclude: readonly string[],
  signal?: AbortSignal,
): Promise<ReviewItem | null> {
  const query = new URLSearchParams(exclude.map((id) => ['exclude', id]));
  const { item } = await sendJson<{ item: ReviewItem | null }>(`/api/v1/review/next?${query}`, { key, signal });
  return item;
}

export async function fetchPicture(key: string, url: string, signal?: AbortSignal): Promise<Blob> {
  return (await send(url, { key, signal })).blob();
}

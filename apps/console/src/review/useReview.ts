import type { ReviewItem } from '@tuneloop/contracts/rewards/review';
import { queryOptions, useQuery, useQueryClient } from '@tanstack/react-query';
import { useEffect, useState } from 'react';
import { isRefusedKey } from '../api/http.ts';
import { fetchNext, judgementOf, type Verdict } from '../api/review.ts';
import { signOut } from '../session/key.ts';
import type { Deed, OutboxState } from './outbox.ts';
import { useOutbox } from './useOutbox.ts';
import { usePicture, usePrefetchedPicture } from './usePicture.ts';

/** How often a page with nothing left looks for new questions. */
const LOOK_AGAIN_MS = 20_000;
/** As many as the server takes. */
const MAX_EXCLUDED = 100;

type Done = Exclude<Deed, { kind: 'undo' }>;

export interface Review {
  /** undefined: not there yet. null: nothing left. */
  readonly item: ReviewItem | null | undefined;
  readonly picture: ReturnType<typeof usePicture>;
  readonly error: Error | null;
  readonly offline: boolean;
  readonly outbox: OutboxState;
  /** Number of the question in this sitting; changes with each one shown. */
  readonly position: number;
  readonly judged: number;
  readonly last: Done | undefined;
  readonly judge: (verdict: Verdict) => void;
  readonly skip: () => void;
  readonly undo: () => void;
  readonly retry: () => void;
}

/**
 * A sitting: questions one after the other, the next one fetched while this one is read. Question n + 1 is asked for
 * with question n held back, so what is on the screen never comes twice; going back finds n as it was.
 */
export function useReview(key: string): Review {
  const client = useQueryClient();
  const { outbox, state } = useOutbox(key);
  const [position, setPosition] = useState(0);
  /** What was done at each position so far, and the id to undo it by. */
  const [trail, setTrail] = useState<readonly { readonly id: string; readonly deed: Done }[]>([]);

  const question = (at: number) =>
    queryOptions({
      queryKey: ['review', key, at],
      queryFn: ({ signal }) => {
        const before = client.getQueryData<ReviewItem | null>(['review', key, at - 1]);
        const held = new Set(outbox.state.pending.map(({ deed }) => deed.itemId));
        if (before) held.add(before.id);
        return fetchNext(key, [...held].slice(-MAX_EXCLUDED), signal);
      },
      // A question stays as it is; that there is none may change.
      staleTime: (query) => (query.state.data ? Number.POSITIVE_INFINITY : 0),
      gcTime: Number.POSITIVE_INFINITY,
      refetchInterval: (query) => (query.state.data === null ? LOOK_AGAIN_MS : false),
    });
  const current = useQuery(question(position));
  const item = current.data;
  const following = useQuery({ ...question(position + 1), enabled: Boolean(item), refetchInterval: false });
  const picture = usePicture(key, item?.image_url ?? null);
  usePrefetchedPicture(key, following.data?.image_url ?? null);

  const refused = isRefusedKey(current.error) || state.status === 'refused';
  useEffect(() => {
    if (refused) signOut(true);
  }, [refused]);

  const advance = (deed: Done): void => {
    const id = outbox.add(deed);
    setTrail([...trail, { id, deed }]);
    setPosition(position + 1);
  };
  return {
    item,
    picture,
    error: item === undefined ? current.error : null,
    offline: current.fetchStatus === 'paused',
    outbox: state,
    position,
    judged: trail.filter(({ deed }) => deed.kind === 'judge').length,
    last: trail.at(-1)?.deed,
    judge: (verdict) => {
      if (item) advance({ kind: 'judge', itemId: item.id, body: judgementOf(item, verdict) });
    },
    skip: () => {
      if (item) advance({ kind: 'skip', itemId: item.id });
    },
    undo: () => {
      const done = trail.at(-1);
      if (!done) return;
      outbox.undo(done.id, done.deed);
      setTrail(trail.slice(0, -1));
      setPosition(position - 1);
    },
    retry: () => void current.refetch(),
  };
}

import { queryOptions, skipToken, useQuery } from '@tanstack/react-query';
import { useEffect, useState } from 'react';
import { fetchPicture } from '../api/review.ts';

/** How long a picture that is not shown is kept for going back. */
const KEPT_MS = 60_000;

/** An <img> sends no credentials: the bytes are fetched with the key. */
function pictureQuery(key: string, url: string | null) {
  return queryOptions({
    queryKey: ['picture', key, url],
    queryFn: url === null ? skipToken : ({ signal }) => fetchPicture(key, url, signal),
    staleTime: Number.POSITIVE_INFINITY,
    gcTime: KEPT_MS,
  });
}

export type Picture =
  | { readonly state: 'none' | 'loading' }
  | { readonly state: 'failed'; readonly retry: () => void }
  | { readonly state: 'shown'; readonly src: string };

export function usePicture(key: string, url: string | null): Picture {
  const { data, isError, refetch } = useQuery(pictureQuery(key, url));
  const [src, setSrc] = useState<string>();
  useEffect(() => {
    if (!data) return undefined;
    const made = URL.createObjectURL(data);
    setSrc(made);
    return () => {
      setSrc(undefined);
      URL.revokeObjectURL(made);
    };
  }, [data]);
  if (url === null) return { state: 'none' };
  if (data && src !== undefined) return { state: 'shown', src };
  return isError ? { state: 'failed', retry: () => void refetch() } : { state: 'loading' };
}

export function usePrefetchedPicture(key: string, url: string | null): void {
  useQuery(pictureQuery(key, url));
}

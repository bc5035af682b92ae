import { useSyncExternalStore } from 'react';

const STORED_AS = 'tuneloop.key';

/** The key and, when there is none, why. Kept for the tab only: closing it signs out. */
export interface Session {
  readonly key: string | null;
  /** True when a key was refused, so that the sign-in page can say so. */
  readonly refused: boolean;
}

const watchers = new Set<() => void>();
let session: Session = { key: sessionStorage.getItem(STORED_AS), refused: false };

function change(next: Session): void {
  session = next;
  if (next.key === null) sessionStorage.removeItem(STORED_AS);
  else sessionStorage.setItem(STORED_AS, next.key);
  for (const notify of watchers) notify();
}

export function signIn(key: string): void {
  change({ key: key.trim(), refused: false });
}

export function signOut(refused = false): void {
  change({ key: null, refused });
}

export function useSession(): Session {
  return useSyncExternalStore(
    (notify) => {
      watchers.add(notify);
      return () => watchers.delete(notify);
    },
    () => session,
  );
}

/** Takes the key out of `#key=…`, as invitation links carry it, and out of the address; also when a link is opened later. */
export function takeKeyFromAddress(): void {
  takeKey();
  window.addEventListener('hashchange', takeKey);
}

function takeKey(): void {
  const key = new URLSearchParams(window.location.hash.slice(1)).get('key');
  if (key === null) return;
  window.history.replaceState(window.history.state, '', window.location.pathname + window.location.search);
  if (key.trim() !== '') signIn(key);
}

import { useEffect, useState, useSyncExternalStore } from 'react';
import { send, sendJson } from '../api/http.ts';
import { Outbox, type OutboxOptions, type OutboxState, type Transport } from './outbox.ts';

/** One outbox for a key, sending while the page is open. */
export function useOutbox(key: string): { outbox: Outbox; state: OutboxState } {
  const [outbox] = useState(
    () => new Outbox({ storage: deviceStorage(), transport: transportOf(key), owner: ownerOf(key) }),
  );
  const state = useSyncExternalStore(outbox.watch, () => outbox.state);
  useEffect(() => {
    const wake = (): void => outbox.wake();
    outbox.start();
    window.addEventListener('online', wake);
    window.addEventListener('focus', wake);
    return () => {
      window.removeEventListener('online', wake);
      window.removeEventListener('focus', wake);
      outbox.stop();
    };
  }, [outbox]);
  return { outbox, state };
}

function transportOf(key: string): Transport {
  return {
    judge: async (body, idempotencyKey) => {
      const { id } = await sendJson<{ id: string }>('/api/v1/feedback', { key, method: 'POST', body, idempotencyKey });
      return id;
    },
    skip: async (id, idempotencyKey) => {
      await send('/api/v1/review/skip', { key, method: 'POST', body: { id }, idempotencyKey });
    },
    takeBack: async (feedbackId) => {
      await send(`/api/v1/feedback/${feedbackId}`, { key, method: 'DELETE' });
    },
    unskip: async (id) => {
      await send(`/api/v1/review/skip/${id}`, { key, method: 'DELETE' });
    },
  };
}

/** The public part of a key, or a short hash of another credential: names whose answers these are, opens nothing. */
function ownerOf(key: string): string {
  const id = /^tl_([A-Za-z0-9]+)_/.exec(key)?.[1];
  if (id !== undefined) return id;
  let hash = 0;
  for (const char of key) hash = (Math.imul(hash, 31) + (char.codePointAt(0) ?? 0)) | 0;
  return `h${(hash >>> 0).toString(36)}`;
}

/** Where the browser keeps nothing (some private windows), answers live as long as the page. */
function deviceStorage(): OutboxOptions['storage'] {
  try {
    const probe = 'tuneloop.probe';
    window.localStorage.setItem(probe, '1');
    window.localStorage.removeItem(probe);
    return window.localStorage;
  } catch {
    return pageStorage();
  }
}

function pageStorage(): OutboxOptions['storage'] {
  const kept = new Map<string, string>();
  return {
    get length() {
      return kept.size;
    },
    key: (index) => [...kept.keys()][index] ?? null,
    getItem: (name) => kept.get(name) ?? null,
    setItem: (name, value) => void kept.set(name, value),
    removeItem: (name) => void kept.delete(name),
  };
}

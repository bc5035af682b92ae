import { waitUntil } from '@tuneloop/local/processes';
import { expect } from 'vitest';

const WAIT_MS = 60_000;

/** One answer of an HTTP door, its JSON not yet trusted. */
export interface Answer<T = unknown> {
  readonly status: number;
  readonly headers: Headers;
  readonly body: T;
  readonly text: string;
}

export interface Sent {
  readonly json?: unknown;
  /** Sent as it is, as JSON unless `headers` say otherwise. */
  readonly raw?: string | Uint8Array<ArrayBuffer>;
  readonly form?: FormData;
  readonly headers?: Readonly<Record<string, string>>;
  /** Another key than the door's own; null for none. */
  readonly key?: string | null;
}

/** The HTTP side of a running stack, as one client with one key sees it. */
export class Door {
  readonly url: string;
  readonly key: string;

  constructor(url: string, key: string) {
    this.url = url;
    this.key = key;
  }

  async send<T>(method: string, path: string, sent: Sent = {}): Promise<Answer<T>> {
    const key = sent.key === undefined ? this.key : sent.key;
    const body = sent.form ?? sent.raw ?? (sent.json === undefined ? undefined : JSON.stringify(sent.json));
    const answer = await fetch(`${this.url}${path}`, {
      method,
      headers: {
        ...(key === null ? {} : { apikey: key, authorization: `Bearer ${key}` }),
        ...(body === undefined || sent.form ? {} : { 'content-type': 'application/json' }),
        ...sent.headers,
      },
      ...(body === undefined ? {} : { body }),
    });
    const text = await answer.text();
    return { status: answer.status, headers: answer.headers, body: parsed(text) as T, text };
  }

  get<T>(path: string, sent?: Sent): Promise<Answer<T>> {
    return this.send('GET', path, sent);
  }

  post<T>(path: string, json: unknown, sent: Sent = {}): Promise<Answer<T>> {
    return this.send('POST', path, { ...sent, json });
  }

  put<T>(path: string, json: unknown): Promise<Answer<T>> {
    return this.send('PUT', path, { json });
  }

  delete<T>(path: string): Promise<Answer<T>> {
    return this.send('DELETE', path);
  }

  /** A key of the same project with another role. */
  async keyFor(role: 'owner' | 'engineer' | 'reviewer' | 'viewer'): Promise<string> {
    const made = await this.post<{ key: string }>('/api/v1/api-keys', { name: `a ${role}`, role });
    expect(made.status, made.text).toBe(201);
    return made.body.key;
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Waits until `read` gives a value that `wanted` accepts, and gives it. */
export async function until<T>(read: () => Promise<T>, wanted: (value: T) => boolean, timeoutMs = WAIT_MS): Promise<T> {
  let last: T | undefined;
  const came = await waitUntil(async () => {
    last = await read();
    return wanted(last);
  }, timeoutMs);
  if (!came) throw new Error(`not within ${timeoutMs} ms; last seen: ${JSON.stringify(last)?.slice(0, 2_000)}`);
  return last!;
}

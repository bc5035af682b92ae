import { describe, expect, it } from 'vitest';
import { ApiError } from '../api/http.ts';
import type { Judgement } from '../api/review.ts';
import { type Deed, Outbox, type Transport } from './outbox.ts';

/** A browser's storage, as the specification has it. */
class Memory {
  readonly #map = new Map<string, string>();
  get length(): number {
    return this.#map.size;
  }
  key(index: number): string | null {
    return [...this.#map.keys()][index] ?? null;
  }
  getItem(name: string): string | null {
    return this.#map.get(name) ?? null;
  }
  setItem(name: string, value: string): void {
    this.#map.set(name, value);
  }
  removeItem(name: string): void {
    this.#map.delete(name);
  }
}

const unreachable = () => new ApiError(0, 'unreachable', '');

/** A server that answers a key once, and can lose requests or answers. */
class Server implements Transport {
  readonly kept = new Map<string, { feedbackId: string; body: Judgement }>();
  readonly log: string[] = [];
  next: ('ok' | 'request_lost' | 'answer_lost' | ApiError)[] = [];

  async #meet<T>(what: string, work: () => T): Promise<T> {
    const fate = this.next.shift() ?? 'ok';
    if (fate instanceof ApiError) throw fate;
    if (fate === 'request_lost') throw unreachable();
    const result = work();
    this.log.push(what);
    if (fate === 'answer_lost') throw unreachable();
    return result;
  }
  judge(body: Judgement, id: string): Promise<string> {
    return this.#meet(`judge ${body.metadata.item_id} ${body.value}`, () => {
      const known = this.kept.get(id) ?? { feedbackId: `f-${id}`, body };
      this.kept.set(id, known);
      return known.feedbackId;
    });
  }
  skip(itemId: string): Promise<void> {
    return this.#meet(`skip ${itemId}`, () => undefined);
  }
  unskip(itemId: string): Promise<void> {
    return this.#meet(`unskip ${itemId}`, () => undefined);
  }
  takeBack(feedbackId: string): Promise<void> {
    return this.#meet(`take back ${feedbackId}`, () => {
      for (const [id, row] of this.kept) if (row.feedbackId === feedbackId) this.kept.delete(id);
    });
  }
}

function judge(itemId: string, value: Judgement['value'] = 'a') {
  const body: Judgement = {
    kind: 'ab',
    value,
    response_id: `${itemId}-a`,
    other_response_id: `${itemId}-b`,
    user_id: 'ann',
    metadata: { surface: 'review', item_id: itemId },
  };
  return { kind: 'judge', itemId, body } as const satisfies Deed;
}

function setUp(storage = new Memory(), owner = 'ann') {
  const server = new Server();
  const waits: number[] = [];
  let timer: (() => void) | undefined;
  let made = 0;
  const outbox = new Outbox({
    storage,
    owner,
    transport: server,
    newId: () => `${owner}${++made}`,
    later: (work, ms) => {
      waits.push(ms);
      timer = work;
      return () => (timer = undefined);
    },
  });
  outbox.start();
  const settled = async (): Promise<void> => {
    while (outbox.state.status === 'sending') await Promise.resolve();
  };
  const passTime = async (): Promise<void> => {
    timer?.();
    await settled();
  };
  return { outbox, server, storage, waits, settled, passTime };
}

describe('what a reviewer did', () => {
  it('is sent in order and forgotten', async () => {
    const { outbox, server, storage, settled } = setUp();
    outbox.add(judge('1'));
    outbox.add(judge('2', 'tie'));
    outbox.add({ kind: 'skip', itemId: '3' });
    await settled();
    expect(server.log).toEqual(['judge 1 a', 'judge 2 tie', 'skip 3']);
    expect(outbox.state).toMatchObject({ pending: [], status: 'idle', dropped: 0 });
    expect(new Outbox({ storage, owner: 'ann', transport: server }).state.pending).toEqual([]);
  });

  it('is sent again until it arrives, and arrives once, whatever was lost on the way', async () => {
    const { outbox, server, waits, settled, passTime } = setUp();
    server.next = ['request_lost', 'answer_lost', 'answer_lost'];
    outbox.add(judge('1'));
    await settled();
    outbox.add(judge('2'));
    await settled();
    expect(outbox.state).toMatchObject({ status: 'waiting' });
    expect(outbox.state.pending.map(({ deed }) => deed.itemId)).toEqual(['1', '2']);
    await passTime();
    await passTime();
    expect([...server.kept.values()].map(({ body }) => body.metadata.item_id)).toEqual(['1', '2']);
    expect(outbox.state).toMatchObject({ pending: [], status: 'idle' });
    expect(waits).toEqual([1_000, 2_000, 4_000]);
  });

  it('outlives the page', async () => {
    const first = setUp();
    first.server.next = ['answer_lost'];
    first.outbox.add(judge('1'));
    await first.settled();
    first.outbox.stop();
    const second = setUp(first.storage);
    await second.settled();
    expect([...second.server.kept.keys()]).toEqual(['ann1']);
  });

  it('is not sent by another key', async () => {
    const first = setUp();
    first.server.next = ['request_lost'];
    first.outbox.add(judge('1'));
    await first.settled();
    const other = setUp(first.storage, 'bob');
    await other.settled();
    expect(other.server.log).toEqual([]);
  });

  it('is kept when the key is refused, and dropped when the answer is gone', async () => {
    const { outbox, server, settled } = setUp();
    server.next = [new ApiError(404, 'rewards.response.not_found', ''), new ApiError(401, 'auth', '')];
    outbox.add(judge('1'));
    outbox.add(judge('2'));
    await settled();
    expect(outbox.state).toMatchObject({ status: 'refused', dropped: 1 });
    expect(outbox.state.pending.map(({ deed }) => deed.itemId)).toEqual(['2']);
  });
});

describe('undo', () => {
  it('forgets what never left', async () => {
    const { outbox, server, settled, passTime } = setUp();
    server.next = ['request_lost'];
    outbox.add(judge('1'));
    await settled();
    const deed = judge('2');
    outbox.undo(outbox.add(deed), deed);
    await settled();
    await passTime();
    expect(server.log).toEqual(['judge 1 a']);
  });

  it('takes back what arrived, and what may have', async () => {
    const { outbox, server, settled, passTime } = setUp();
    const [one, two, three] = [judge('1'), judge('2'), { kind: 'skip', itemId: '3' } as const];
    const sent = outbox.add(one);
    await settled();
    outbox.undo(sent, one);
    await settled();
    server.next = ['answer_lost'];
    const lost = outbox.add(two);
    await settled();
    outbox.undo(lost, two);
    outbox.add(judge('2', 'b'));
    await settled();
    await passTime();
    outbox.undo(outbox.add(three), three);
    await settled();
    expect([...server.kept.values()].map(({ body }) => `${body.metadata.item_id} ${body.value}`)).toEqual(['2 b']);
    expect(server.log.slice(-2)).toEqual(['skip 3', 'unskip 3']);
  });

  it('is done when it is gone already', async () => {
    const { outbox, server, settled } = setUp();
    const deed = judge('1');
    const id = outbox.add(deed);
    await settled();
    server.next = [new ApiError(404, 'rewards.feedback.not_found', '')];
    outbox.undo(id, deed);
    await settled();
    expect(outbox.state).toMatchObject({ pending: [], status: 'idle', dropped: 0 });
  });
});

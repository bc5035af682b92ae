import {
  createResponse,
  deleteResponse,
  getResponse,
  createRftResponse,
  deleteRftResponse,
  listResponses,
  listRftResponses,
  updateRftResponse,
} from '@tuneloop/contracts/responses/http';
import { getResponseRecord, snapshotResponses } from '@tuneloop/contracts/responses/internal';
import { newId } from '@tuneloop/runtime/ids';
import { startTestService, type TestSystem } from '@tuneloop/testkit/service';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { responsesService } from '../src/service.ts';

interface RftRow {
  id: string;
  user_id: string;
  prompt: string;
  response_text: string;
  model_id: string;
  metadata: Record<string, unknown>;
}
interface RftAnswer<T> {
  success: boolean;
  data: T;
  count: number;
  error: string;
  message: string;
}

let system: TestSystem;
let projectId: string;
beforeAll(async () => {
  system = await startTestService(responsesService);
  projectId = await system.project();
});
afterAll(() => system.stop());

const post = (body: unknown, headers: Record<string, string> = {}) =>
  system.call<RftAnswer<RftRow>>(createRftResponse, { body }, { projectId, headers });

describe('rft-responses', () => {
  it('records, lists newest first, changes and deletes, each with its event', async () => {
    const user = `u-${newId()}`;
    const first = await post({ user_id: user, prompt: 'a red mug', response_text: 'A mug.' });
    expect(first.status).toBe(200);
    expect(first.body).toMatchObject({
      success: true,
      data: { user_id: user, model_id: 'default', metadata: {}, prompt: 'a red mug', response_text: 'A mug.' },
    });
    const second = await post({ user_id: user, prompt: 'p', response_text: 'r', model_id: 'm', metadata: { a: [1] } });
    const list = await system.call<RftAnswer<RftRow[]>>(listRftResponses, { query: { user_id: user } }, { projectId });
    expect(list.body.data.map((row) => row.id)).toEqual([second.body.data.id, first.body.data.id]);
    expect(list.body.count).toBe(2);
    const page = await system.call<RftAnswer<RftRow[]>>(
      listRftResponses,
      { query: { user_id: user, limit: 1, offset: 1 } },
      { projectId },
    );
    expect(page.body).toMatchObject({ count: 2, data: [{ id: first.body.data.id }] });

    const id = first.body.data.id;
    const changed = await system.call<RftAnswer<RftRow>>(
      updateRftResponse,
      { query: { id }, body: { response_text: 'A red mug.' } },
      { projectId },
    );
    expect(changed.body.data).toMatchObject({ response_text: 'A red mug.', prompt: 'a red mug' });
    const gone = await system.call<RftAnswer<never>>(deleteRftResponse, { query: { id } }, { projectId });
    expect(gone.body).toMatchObject({ success: true });
    expect(typeof gone.body.message).toBe('string');
    const again = await system.call<RftAnswer<never>>(deleteRftResponse, { query: { id } }, { projectId });
    expect(again.status).toBe(404);

    const events = await system.sql<{ type: string; version: string }>(
      `SELECT headers->>'ce-type' AS type, headers->>'ce-aggregateversion' AS version FROM responses.outbox
       WHERE headers->>'ce-subject' = $1 ORDER BY seq`,
      [id],
    );
    expect(events).toEqual([
      { type: 'tuneloop.response.created', version: '1' },
      { type: 'tuneloop.response.updated', version: '2' },
      { type: 'tuneloop.response.deleted', version: '3' },
    ]);
  });

  it('answers a repeated POST with the same Idempotency-Key once', async () => {
    const body = { user_id: `u-${newId()}`, prompt: 'p', response_text: 'r' };
    const key = { 'idempotency-key': newId() };
    const [a, b] = [await post(body, key), await post(body, key)];
    expect(b.body.data.id).toBe(a.body.data.id);
    const list = await system.call<RftAnswer<RftRow[]>>(
      listRftResponses,
      { query: { user_id: body.user_id } },
      { projectId },
    );
    expect(list.body.count).toBe(1);
  });

  it.each([
    [{}, 'user_id'],
    [{ user_id: 'u', response_text: 'r' }, 'prompt'],
    [{ user_id: 'u', prompt: 'p' }, 'response_text'],
    [{ user_id: 'u', prompt: '', response_text: 'r' }, 'prompt'],
    [{ user_id: 7, prompt: 'p', response_text: 'r' }, 'user_id'],
    [{ user_id: 'u', prompt: 'p', response_text: 'r', metadata: 'x' }, 'metadata'],
    [{ user_id: 'u', prompt: 'p\0', response_text: 'r' }, 'prompt'],
    [{ user_id: 'u', prompt: 'p', response_text: 'ä'.repeat(180_000) }, 'response_text'],
  ])('refuses %#', async (body, field) => {
    const answer = await post(body);
    expect(answer.status).toBe(400);
    expect(answer.body.success).toBe(false);
    expect(answer.body.error).toContain(field);
  });

  it.each([
    [updateRftResponse, { id: 'nonsense' }, { prompt: 'x' }, 400],
    [updateRftResponse, {}, { prompt: 'x' }, 400],
    [updateRftResponse, { id: newId() }, { prompt: 'x' }, 404],
    [updateRftResponse, { id: newId() }, {}, 400],
    [deleteRftResponse, { id: 'nonsense' }, undefined, 400],
    [deleteRftResponse, { id: newId() }, undefined, 404],
    [listRftResponses, { limit: 0 }, undefined, 400],
    [listRftResponses, { offset: -1 }, undefined, 400],
    [listRftResponses, { limit: 'x' }, undefined, 400],
  ] as const)('refuses %#', async (contract, query, body, status) => {
    const answer = await system.call<RftAnswer<never>>(contract, body === undefined ? { query } : { query, body }, {
      projectId,
    });
    expect(answer.status).toBe(status);
    expect(answer.body.success).toBe(false);
  });

  it('shows a project nothing of another', async () => {
    const other = await system.project();
    const { body } = await post({ user_id: 'u', prompt: 'p', response_text: 'secret' });
    const list = await system.call<RftAnswer<RftRow[]>>(listRftResponses, {}, { projectId: other });
    expect(list.body.count).toBe(0);
    for (const contract of [updateRftResponse, deleteRftResponse]) {
      const answer = await system.call(
        contract,
        { query: { id: body.data.id }, body: { prompt: 'x' } },
        { projectId: other },
      );
      expect(answer.status).toBe(404);
    }
    const record = await system.call(getResponseRecord, { params: { id: body.data.id } }, { projectId: other });
    expect(record.status).toBe(404);
  });
});

describe('responses', () => {
  it('lists every response once over pages, and gives snapshots in id order', async () => {
    const own = await system.project();
    const made: string[] = [];
    for (let i = 0; i < 7; i++) {
      const answer = await system.call<{ response_id: string }>(
        createResponse,
        { body: { prompt: `p${i}`, response_text: 'r', brand: 'acme', purpose: 'production' } },
        { projectId: own },
      );
      expect(answer.status).toBe(201);
      made.push(answer.body.response_id);
    }
    for (const contract of [listResponses, snapshotResponses]) {
      const seen: string[] = [];
      let cursor: string | null = null;
      do {
        const answer: { body: { data: { response_id: string }[]; next_cursor: string | null } } = await system.call(
          contract,
          { query: { limit: 3, ...(cursor === null ? {} : { cursor }) } },
          { projectId: own },
        );
        seen.push(...answer.body.data.map((row) => row.response_id));
        cursor = answer.body.next_cursor;
      } while (cursor !== null);
      expect(seen.toSorted()).toEqual(made.toSorted());
    }
    const none = await system.call(listResponses, { query: { purpose: 'candidate' } }, { projectId: own });
    expect(none.body).toMatchObject({ data: [] });
    const one = { params: { id: made[0]! } };
    const got = await system.call(getResponse, one, { projectId: own });
    expect(got.body).toMatchObject({ response_id: made[0], brand: 'acme', purpose: 'production', trace: null });
    expect((await system.call(deleteResponse, one, { projectId: own })).body).toMatchObject({ deleted: true });
    expect((await system.call(getResponse, one, { projectId: own })).status).toBe(404);
    expect((await system.call(deleteResponse, one, { projectId: own })).status).toBe(404);
    const bad = await system.call(listResponses, { query: { cursor: 'x' } }, { projectId: own });
    expect(bad.status).toBe(400);
  });
});

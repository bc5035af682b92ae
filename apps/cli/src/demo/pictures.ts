import type { Client } from '@tuneloop/client/client';
import { createImage, createSession } from '@tuneloop/contracts/ingest/http';
import { listPrompts } from '@tuneloop/contracts/responses/http';
import { getStatistics } from '@tuneloop/contracts/rewards/http';
import { renderPicture, samplePictures } from '@tuneloop/nano/pictures';
import type { z } from 'zod';
import type { Terminal } from '../start/terminal.ts';
import { bar } from '../start/terminal.ts';
import { forEachLimited, poll } from './concurrency.ts';

export type Prompt = z.output<typeof listPrompts.response>['data'][number];

const UPLOADS_AT_ONCE = 6;
const POLL_MS = 500;
const CANDIDATES_TIMEOUT_MS = 300_000;
const PAGE = 200;

/** Draws the sample pictures and uploads them into a session of their own. Returns the session's id. */
export async function uploadPictures(client: Client, count: number, seed: number, terminal: Terminal): Promise<string> {
  const session = await client.call(
    createSession,
    { body: { name: `sample pictures, seed ${seed}`, generate: true } },
    { idempotencyKey: crypto.randomUUID() },
  );
  const pictures = samplePictures(count, seed);
  let done = 0;
  await forEachLimited(pictures, UPLOADS_AT_ONCE, async (picture) => {
    const form = new FormData();
    form.set('session_id', session.id);
    form.set('category', picture.attributes.category);
    form.set('alt_text', picture.altText);
    form.set('licence', 'CC0-1.0');
    form.set('file', new File([new Uint8Array(await renderPicture(picture))], picture.fileName, { type: 'image/png' }));
    await client.call(createImage, { form }, { idempotencyKey: `${session.id}.${picture.index}` });
    done += 1;
    terminal.progress('pictures', `${bar(done / count)}  ${done} of ${count} uploaded`);
  });
  return session.id;
}

/** Responses of the project so far: what `awaitCandidates` counts from. */
export async function countResponses(client: Client): Promise<number> {
  return (await client.call(getStatistics)).responses.total;
}

/** Waits until every prompt of the session has its candidate answers. `already`: responses before the first upload. */
export async function awaitCandidates(
  client: Client,
  sessionId: string,
  expected: { readonly prompts: number; readonly each: number; readonly already: number },
  terminal: Terminal,
): Promise<Prompt[]> {
  const wanted = expected.prompts * expected.each;
  return poll(
    async () => {
      const made = (await countResponses(client)) - expected.already;
      terminal.progress('answers', `${bar(made / wanted)}  ${made} of ${wanted} candidate answers`);
      const failed = await client.call(listPrompts, { query: { session_id: sessionId, status: 'failed', limit: 1 } });
      const first = failed.data[0];
      if (first) throw new Error(`no answers for prompt ${first.id}: ${first.reason ?? first.status}`);
      return made < wanted ? undefined : sessionPrompts(client, sessionId);
    },
    POLL_MS,
    CANDIDATES_TIMEOUT_MS,
    'Answering the prompts',
  );
}

async function sessionPrompts(client: Client, sessionId: string): Promise<Prompt[]> {
  const prompts: Prompt[] = [];
  let cursor: string | null | undefined;
  do {
    const page = await client.call(listPrompts, {
      query: { session_id: sessionId, limit: PAGE, ...(cursor ? { cursor } : {}) },
    });
    prompts.push(...page.data);
    cursor = page.next_cursor;
  } while (cursor !== null);
  return prompts;
}

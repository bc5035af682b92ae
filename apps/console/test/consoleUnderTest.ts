import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ensureConsole } from '@tuneloop/cli/start/console';
import { Client } from '@tuneloop/client/client';
import { createApiKey } from '@tuneloop/contracts/gateway/http';
import { bootstrapProject } from '@tuneloop/contracts/gateway/internal';
import { createImage } from '@tuneloop/contracts/ingest/http';
import { createResponse } from '@tuneloop/contracts/responses/http';
import { listFeedback } from '@tuneloop/contracts/rewards/http';
import { getNextReview } from '@tuneloop/contracts/rewards/review';
import { gatewayService } from '@tuneloop/gateway/service';
import { ingestService } from '@tuneloop/ingest/service';
import { renderPicture, samplePictures } from '@tuneloop/nano/pictures';
import { responsesService } from '@tuneloop/responses/service';
import { rewardsService } from '@tuneloop/rewards/service';
import { createLog } from '@tuneloop/runtime/log';
import { eventually } from '@tuneloop/testkit/eventually';
import { startTestSystem, type TestSystem } from '@tuneloop/testkit/service';

interface Said {
  readonly id: string;
  readonly value: unknown;
  readonly response_id: string;
  readonly other_response_id: string | null;
  readonly user_id: string;
  readonly status: string;
}

export interface ConsoleUnderTest {
  readonly url: string;
  /** A folder for screenshots, for people to look at. */
  readonly shots: string;
  /** A project of its own with `count` pictures, two answers each, and a reviewer's key to it. */
  project(count: number): Promise<ProjectUnderTest>;
  stop(): Promise<void>;
}

export interface ProjectUnderTest {
  readonly key: string;
  readonly owner: Client;
  /** Feedback that counts, oldest first. */
  said(): Promise<Said[]>;
  addPrompt(index: number): Promise<string>;
}

/** Two answers as a small model gives them: one right, one that is not. */
function answersAbout({ noun, colour, background }: { noun: string; colour: string; background: string }) {
  return [
    `${noun[0]?.toUpperCase()}${noun.slice(1)} in ${colour} before ${background}, softly lit from the side. The shape is simple and clear.`,
    `This is a lovely ${noun}! You will adore it in any room.`,
  ];
}

export async function startConsole(): Promise<ConsoleUnderTest> {
  const folder = await ensureConsole({ log: createLog({ level: 'error' }) });
  if (folder === undefined) throw new Error('the console could not be built');
  const system: TestSystem = await startTestSystem([gatewayService, ingestService, responsesService, rewardsService], {
    env: { CONSOLE_DIR: folder },
  });
  const url = system.url('gateway');
  return {
    url,
    shots: await mkdtemp(join(tmpdir(), 'tuneloop-console-')),
    project: (count) => startProject(system, count),
    stop: () => system.stop(),
  };
}

async function startProject(system: TestSystem, count: number): Promise<ProjectUnderTest> {
  const id = crypto.randomUUID();
  const bootstrapped = await system.call<{ api_key: string }>(
    bootstrapProject,
    { body: { project_id: id, slug: `p-${id.slice(0, 8)}`, name: 'Console', make_key: true } },
    { projectId: id },
  );
  const owner = new Client({ baseUrl: system.url('gateway'), apiKey: bootstrapped.body.api_key });
  const { key } = await owner.call(createApiKey, { body: { name: 'Rita', role: 'reviewer' } });
  const pictures = samplePictures(Math.max(count, 1) + 4, 7);
  const addPrompt = async (index: number): Promise<string> => {
    const picture = pictures[index]!;
    const form = new FormData();
    form.set('category', picture.attributes.category);
    form.set('alt_text', picture.altText);
    form.set('generate', 'false');
    form.set('file', new File([new Uint8Array(await renderPicture(picture))], picture.fileName, { type: 'image/png' }));
    const image = await owner.call(createImage, { form });
    const prompt_id = crypto.randomUUID();
    const { noun, category, colour, background } = picture.attributes;
    for (const response_text of answersAbout({ noun, colour, background })) {
      await owner.call(createResponse, {
        body: {
          prompt: `Item: ${noun}\nCategory: ${category}\nColour: ${colour}\nBackground: ${background}`,
          response_text,
          prompt_id,
          image_id: image.id,
          category,
          purpose: 'production',
        },
      });
    }
    return prompt_id;
  };
  for (let index = 0; index < count; index++) await addPrompt(index);
  const reviewer = new Client({ baseUrl: system.url('gateway'), apiKey: key });
  await eventually(async () => ((await reviewer.call(getNextReview)).item?.remaining ?? 0) === count);
  return {
    key,
    owner,
    addPrompt,
    said: async () => (await owner.call(listFeedback, { query: { kind: 'ab', limit: 100 } })).data.toReversed(),
  };
}

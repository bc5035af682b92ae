import { chmod, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client } from '@tuneloop/client/client';
import { getExampleLineage, listDatasetExamples } from '@tuneloop/contracts/datasets/http';
import { whyRun } from '@tuneloop/contracts/gateway/http';
import { createImage, getImage } from '@tuneloop/contracts/ingest/http';
import { createChatCompletion, getResponse, listPrompts } from '@tuneloop/contracts/responses/http';
import { getCheckpoint } from '@tuneloop/contracts/trainer/http';
import { freePort, waitUntil } from '@tuneloop/local/processes';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runCli, type Stack, startStack } from '../src/stack.ts';

interface Metric {
  value: number;
  low: number;
  high: number;
  n: number;
}
interface Report {
  counts: Record<string, number>;
  dataset: { id: string; hash: string; splits: Record<string, number>; testGroups: number };
  job: Record<string, number>;
  evaluation: { before: Record<string, Metric>; after: Record<string, Metric> };
  gate: { decision: string; reason: string };
  activeCheckpoint: string | null;
  runId: string;
  seconds: Record<string, number>;
}

const TURN_TIMEOUT_MS = 400_000;

let dataDir: string;
let stack: Stack;
let client: Client;
let report: Report;
let turn: { status: number | null; output: string };

beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'tuneloop-turn-'));
  await chmod(dataDir, 0o755);
  const file = join(dataDir, 'report.json');
  const port = await freePort();
  turn = await runCli(['start', '--once', '--port', String(port), '--data', dataDir, '--report', file], {
    timeoutMs: TURN_TIMEOUT_MS,
  });
  report = JSON.parse(await readFile(file, 'utf8').catch(() => '{}')) as Report;
  stack = await startStack({ dataDir });
  client = new Client({ baseUrl: stack.url, apiKey: stack.apiKey });
}, TURN_TIMEOUT_MS + 60_000);

afterAll(async () => {
  await stack?.stop();
  await rm(dataDir, { recursive: true, force: true });
});

describe('one turn of the loop', () => {
  it('is promoted on held-out prompts and says so in words, numbers and its exit status', () => {
    expect(turn.status, turn.output).toBe(0);
    expect(turn.output).toContain(report.gate.reason);
    expect(report.gate.decision).toBe('promoted');
    expect(report.counts).toMatchObject({ images: 320, prompts: 320, responses: 2560, feedback: 2560, rewards: 2560 });
    expect(report.dataset.testGroups).toBeGreaterThanOrEqual(100);
    const { before, after } = report.evaluation;
    for (const name of ['freshReward', 'winRate', 'preferenceAccuracy', 'wrongAttributes', 'words', 'perplexity']) {
      expect(after[name], name).toMatchObject({ value: expect.any(Number), n: expect.any(Number) });
      expect(before[name], name).toMatchObject({ value: expect.any(Number), n: expect.any(Number) });
    }
    expect(after.freshReward!.low).toBeGreaterThan(before.freshReward!.high);
    expect(after.winRate!.low).toBeGreaterThan(0.5);
    expect(after.perplexity!.value).toBeLessThan(before.perplexity!.value * 1.15);
    expect(report.job.lastLoss).toBeLessThan(report.job.firstLoss!);
  });

  it('keeps its data over a restart, and what was promoted still serves', async () => {
    expect(stack.output()).not.toContain('One turn of the loop');
    const answer = (await client.call(
      createChatCompletion,
      { body: { model: 'default', messages: [{ role: 'user', content: 'Item: coat\nColour: red' }], max_tokens: 32 } },
      { idempotencyKey: crypto.randomUUID() },
    )) as { tuneloop?: { checkpoint_id: string | null } };
    expect(answer.tuneloop?.checkpoint_id).toBe(report.activeCheckpoint);
    expect(report.activeCheckpoint).not.toBeNull();
  });

  it('leads from the checkpoint that serves to the picture that an example came from', async () => {
    const checkpoint = await client.call(getCheckpoint, { params: { id: report.activeCheckpoint! } });
    const { dataset_version_id: versionId } = checkpoint.lineage as { dataset_version_id: string };
    expect(versionId).toBe(report.dataset.id);
    const examples = await client.call(listDatasetExamples, {
      params: { id: versionId },
      query: { split: 'train', limit: 1 },
    });
    const lineage = await client.call(getExampleLineage, {
      params: { id: versionId, example_id: examples.data[0]!.id },
    });
    expect(lineage.feedback_ids.length).toBeGreaterThan(0);
    const response = await client.call(getResponse, { params: { id: lineage.response_ids[0]! } });
    expect(response.image_id).toBe(lineage.image_id);
    const image = await client.call(getImage, { params: { id: lineage.image_id! } });
    expect(image.provenance.licence).toBe('CC0-1.0');
  });

  it('is told as one story, from the request to what serves', async () => {
    const { entries } = await client.call(whyRun, { params: { id: report.runId } });
    const told = entries.map((entry) => entry.what).filter((what) => what !== 'training.progressed');
    for (const what of [
      'training.requested',
      'dataset.ready',
      'training.started',
      'training.completed',
      'checkpoint.created',
      'evaluation.completed',
      'promotion.decided',
      'deployment.changed',
    ]) {
      expect(told).toContain(what);
    }
    expect(told[0]).toBe('training.requested');
    const told2 = await runCli(['why', report.runId, '--url', stack.url, '--key', stack.apiKey]);
    expect(told2.status).toBe(0);
    expect(told2.output).toContain('promotion.decided');
  });

  it("makes another prompt when the picture's content changes, and only then", async () => {
    const promptOf = async (colour: string): Promise<string> => {
      const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="300" height="300"><rect width="300" height="300" fill="white"/><circle cx="150" cy="150" r="90" fill="${colour}"/></svg>`;
      const form = new FormData();
      form.set('category', 'toys');
      form.set('alt_text', 'ball');
      form.set('generate', 'true');
      const bytes = await sharp(Buffer.from(svg)).png().toBuffer();
      form.set('file', new File([new Uint8Array(bytes)], 'ball.png', { type: 'image/png' }));
      const image = await client.call(createImage, { form }, { idempotencyKey: crypto.randomUUID() });
      let text: string | undefined;
      await waitUntil(async () => {
        text = (await client.call(listPrompts, { query: { image_id: image.id } })).data[0]?.text;
        return text !== undefined;
      }, 30_000);
      return text!;
    };
    const red = await promptOf('#d01818');
    const green = await promptOf('#18a030');
    expect(red).toMatch(/red/i);
    expect(green).toMatch(/green/i);
    expect(red).not.toBe(green);
  });
});

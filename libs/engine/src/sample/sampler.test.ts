import * as fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { fixturePath, readFixture, relativeError } from '../../fixtures/fixtures.ts';
import { readPeftFolder } from '../adapters/peft.ts';
import { initLora, mergeLora } from '../adapters/lora.ts';
import { createScorer } from '../train/scorer.ts';
import { loadTokenizerFolder } from '../tokenizer/tokenizer.ts';
import { initWeights } from '../models/initWeights.ts';
import { LORA_TARGETS, type LoraWeights } from '../types.ts';
import { loadModelFolder } from '../weights/loadModel.ts';
import { readSafetensors } from '../weights/safetensors.ts';
import type { ResponseFormat } from './constraint/constraint.ts';
import type { GenerateRequest } from './request.ts';
import { createSampler, type Sampler } from './sampler.ts';

interface Greedy {
  prompts: number[][];
  greedy: number[][];
}

const model = await loadModelFolder(fixturePath('tiny-tied'));
const adapter = await readPeftFolder(fixturePath('adapter'));
const tokenizer = await loadTokenizerFolder(fixturePath('bpe'));
const greedy = { temperature: 0, maxTokens: 24 } as const;

/** A second adapter of another rank and fewer targets. */
function otherAdapter(): LoraWeights {
  const lora = initLora(model.config, { r: 3, alpha: 6, targets: ['q_proj', 'down_proj'], dropout: 0 }, 5);
  for (const { a, b } of lora.tensors.values())
    b.data.forEach((_, i) => (b.data[i] = a.data[i % a.data.length]! * 1.5));
  return lora;
}

let sampler: Sampler;
beforeEach(() => {
  sampler = createSampler({ model, maxBatch: 4, threads: 2 });
  sampler.addAdapter('tuned', adapter);
});
afterEach(async () => {
  await sampler.close();
});

describe('against PyTorch', () => {
  const families = ['tiny-tied', 'tiny-untied', 'tiny-llama3rope', 'tiny-mistral', 'tiny-qwen2', 'tiny-qwen3'];
  it.each(families)('continues as Transformers does: %s', async (name) => {
    const { prompts, greedy: expected } = await readFixture<Greedy>(`${name}/expected.json`);
    const own = createSampler({ model: await loadModelFolder(fixturePath(name)) });
    const answers = await Promise.all(prompts.map((prompt) => own.generate({ prompt, ...greedy })));
    expect(answers.map(({ tokens }) => tokens)).toEqual(expected);
    await own.close();
  });

  it('continues as PEFT does with the adapter, and as the merged model', async () => {
    const { prompts, greedy: expected } = await readFixture<Greedy>('lora_expected.json');
    const answers = await Promise.all(
      prompts.map((prompt) => sampler.generate({ prompt, ...greedy, adapter: 'tuned' })),
    );
    expect(answers.map(({ tokens }) => tokens)).toEqual(expected);
    const merged = createSampler({ model: mergeLora(model, adapter) });
    const alone = await Promise.all(prompts.map((prompt) => merged.generate({ prompt, ...greedy })));
    expect(alone.map(({ tokens }) => tokens)).toEqual(expected);
    await merged.close();
  });

  it('gives the log-probabilities of the full forward pass after every prefix', async () => {
    const { input_ids: ids } = await readFixture<{ input_ids: number[][] }>('tiny-tied/inputs.json');
    const logits = (await readSafetensors(fixturePath('lora_expected.safetensors'), ['logits'])).get('logits')!.data;
    const prefixes = ids[0]!.map((_, t) => ids[0]!.slice(0, t + 1));
    const answers = await Promise.all(
      prefixes.map((prompt) => sampler.generate({ prompt, maxTokens: 1, topLogprobs: 20, adapter: 'tuned' })),
    );
    for (const [t, answer] of answers.entries()) {
      const reference = logits.subarray(t * 97, (t + 1) * 97);
      const total = Math.log(reference.reduce((sum, x) => sum + Math.exp(x), 0));
      const got = answer.topLogprobs![0]!;
      const expected = got.map(({ token }) => reference[token]! - total);
      expect(
        relativeError(
          got.map(({ logprob }) => logprob),
          expected,
        ),
      ).toBeLessThan(1e-4);
    }
  });

  it('decodes to the numbers that reading the same tokens as a prompt gives', async () => {
    const prompt = [90, 11, 11, 76];
    const answer = await sampler.generate({ prompt, maxTokens: 100, seed: 4, adapter: 'tuned' });
    const again = await Promise.all(
      [0, 1, 40, 59, 60, 61, 99].map(async (t) => {
        const context = [...prompt, ...answer.tokens.slice(0, t)];
        const [best] = (await sampler.generate({ prompt: context, maxTokens: 1, topLogprobs: 20, adapter: 'tuned' }))
          .topLogprobs!;
        const found = best!.find(({ token }) => token === answer.tokens[t]);
        return { t, logprob: found?.logprob };
      }),
    );
    const compared = again.filter(({ logprob }) => logprob !== undefined);
    expect(compared.length).toBeGreaterThan(3);
    for (const { t, logprob } of compared) expect(answer.logprobs[t]).toBeCloseTo(logprob!, 4);
  });
});

describe('against the full forward pass', () => {
  it('draws tokens with the log-probabilities that scoring the whole text gives', async () => {
    const scorer = await createScorer({ model });
    sampler.addAdapter('other', otherAdapter());
    const adapters = new Map([
      ['tuned', adapter],
      ['other', otherAdapter()],
    ]);
    const requests = fc.record({
      prompt: fc.array(fc.integer({ min: 3, max: 96 }), { minLength: 1, maxLength: 70 }),
      seed: fc.nat(),
      name: fc.constantFrom(undefined, 'tuned', 'other'),
      temperature: fc.constantFrom(0, 1),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(requests, { minLength: 1, maxLength: 6 }), async (list) => {
        const answers = await Promise.all(
          list.map(({ name, ...rest }) => sampler.generate({ ...rest, maxTokens: 20, ...(name && { adapter: name }) })),
        );
        for (const [i, { prompt, name }] of list.entries()) {
          const { tokens, logprobs } = answers[i]!;
          const request = { ids: [...prompt, ...tokens], from: prompt.length };
          const [scores] = await scorer.logProbs([request], name === undefined ? undefined : adapters.get(name));
          expect(relativeError(logprobs, scores!)).toBeLessThan(1e-4);
        }
      }),
      { numRuns: 10 },
    );
    await scorer.close();
  });
});

describe('batching', () => {
  const requestOf = fc.record({
    prompt: fc.array(fc.integer({ min: 3, max: 96 }), { minLength: 1, maxLength: 80 }),
    maxTokens: fc.integer({ min: 1, max: 12 }),
    seed: fc.nat(),
    adapter: fc.constantFrom(undefined, 'tuned', 'other'),
    temperature: fc.constantFrom(0, 0.8, 1.5),
    topP: fc.constantFrom(1, 0.9),
    topLogprobs: fc.constantFrom(0, 3),
  });
  const toRequest = ({
    adapter: name,
    ...rest
  }: { adapter: string | undefined } & Omit<GenerateRequest, 'adapter'>): GenerateRequest =>
    name === undefined ? rest : { ...rest, adapter: name };

  it('gives each request the same bits alone and in any company', async () => {
    sampler.addAdapter('other', otherAdapter());
    await fc.assert(
      fc.asyncProperty(fc.array(requestOf, { minLength: 2, maxLength: 9 }), async (list) => {
        const requests = list.map(toRequest);
        const together = await Promise.all(requests.map((request) => sampler.generate(request)));
        for (const [i, request] of requests.entries()) expect(await sampler.generate(request)).toEqual(together[i]);
      }),
      { numRuns: 12 },
    );
  });

  it('reads one prompt for many samples, each as a request of its own', async () => {
    const request = { prompt: [5, 17, 42], maxTokens: 10, seed: 100, adapter: 'tuned' };
    const many = await sampler.generateMany(request, 6);
    expect(new Set(many.map(({ tokens }) => tokens.join())).size).toBeGreaterThan(3);
    for (const [i, one] of many.entries()) expect(await sampler.generate({ ...request, seed: 100 + i })).toEqual(one);
  });

  it('keeps the promise over cache growth and long prompts', async () => {
    const long = createSampler({ model, maxContext: 256 });
    const prompt = Array.from({ length: 150 }, (_, i) => 3 + ((i * 7) % 90));
    const requests = [
      { prompt, maxTokens: 90, seed: 1 },
      { prompt: [9], maxTokens: 100, seed: 2 },
    ];
    const together = await Promise.all(requests.map((request) => long.generate(request)));
    expect(together.map(({ tokens }) => tokens.length)).toEqual([90, 100]);
    for (const [i, request] of requests.entries()) expect(await long.generate(request)).toEqual(together[i]);
    await long.close();
  });
});

describe('adapters', () => {
  it('lets a request end with the adapter it began with', async () => {
    const request = { prompt: [5, 17, 42, 8], ...greedy, adapter: 'tuned' };
    const expected = await sampler.generate(request);
    const base = await sampler.generate({ prompt: request.prompt, ...greedy });
    expect(base.tokens).not.toEqual(expected.tokens);
    const seen: number[] = [];
    const running = sampler.generate({
      ...request,
      onToken: ({ token }) => {
        if (seen.push(token) === 3) sampler.removeAdapter('tuned');
      },
    });
    expect((await running).tokens).toEqual(expected.tokens);
    expect(seen).toEqual(expected.tokens);
    await expect(sampler.generate(request)).rejects.toMatchObject({ code: 'engine.sample.unknown_adapter' });
    sampler.addAdapter('tuned', otherAdapter());
    expect((await sampler.generate(request)).tokens).not.toEqual(expected.tokens);
  });

  it('refuses a second adapter of one name and one that does not fit', () => {
    expect(() => sampler.addAdapter('tuned', adapter)).toThrow(/already loaded/);
    const wide = initLora(
      { ...model.config, hiddenSize: 64 },
      { r: 2, alpha: 2, targets: LORA_TARGETS, dropout: 0 },
      1,
    );
    expect(() => sampler.addAdapter('wide', wide)).toThrow(
      expect.objectContaining({ code: 'engine.adapter.wrong_shape' }),
    );
    expect(sampler.adapterNames()).toEqual(['tuned']);
  });
});

describe('ending', () => {
  it('stops at a stop token and counts it', async () => {
    const { tokens } = await sampler.generate({ prompt: [5, 17, 42, 8], ...greedy });
    const stopTokenIds = [tokens[4]!];
    const answer = await sampler.generate({ prompt: [5, 17, 42, 8], ...greedy, stopTokenIds });
    expect(answer.finishReason).toBe('stop');
    expect(answer.tokens).toEqual(tokens.slice(0, tokens.indexOf(tokens[4]!) + 1));
    expect(answer.logprobs).toHaveLength(answer.tokens.length);
  });

  it('ends where the context ends', async () => {
    const small = createSampler({ model, maxContext: 10 });
    const answer = await small.generate({ prompt: [5, 17, 42, 8], ...greedy });
    expect(answer).toMatchObject({ finishReason: 'length', promptTokens: 4 });
    expect(answer.tokens).toHaveLength(6);
    await expect(small.generate({ prompt: Array.from({ length: 10 }, () => 5), maxTokens: 1 })).rejects.toMatchObject({
      code: 'engine.sample.prompt_too_long',
    });
    await small.close();
  });

  it('rejects an aborted request and goes on with the others', async () => {
    const controller = new AbortController();
    const reason = new Error('gone');
    const aborted = sampler.generate({
      prompt: [5, 17],
      maxTokens: 200,
      ignoreEos: true,
      signal: controller.signal,
      onToken: () => controller.abort(reason),
    });
    const other = sampler.generate({ prompt: [5, 17, 42, 8], ...greedy });
    await expect(aborted).rejects.toBe(reason);
    expect((await other).tokens).toHaveLength(24);
    await expect(sampler.generate({ prompt: [1], maxTokens: 1, signal: controller.signal })).rejects.toBe(reason);
  });

  it('rejects a request whose callback throws, and no other', async () => {
    const bad = sampler.generate({
      prompt: [5],
      maxTokens: 5,
      onToken: () => {
        throw new Error('callback');
      },
    });
    const other = sampler.generate({ prompt: [5], maxTokens: 5 });
    await expect(bad).rejects.toThrow('callback');
    expect((await other).tokens).toHaveLength(5);
  });

  it('rejects what waits and runs when it closes', async () => {
    const pending = Array.from({ length: 6 }, () => sampler.generate({ prompt: [5], maxTokens: 200 }));
    const outcomes = Promise.allSettled(pending);
    await sampler.close();
    for (const outcome of await outcomes) {
      expect(outcome).toMatchObject({ status: 'rejected', reason: { code: 'engine.sample.closed' } });
    }
    await expect(sampler.generate({ prompt: [5], maxTokens: 1 })).rejects.toMatchObject({
      code: 'engine.sample.closed',
    });
  });
});

describe('bad requests', () => {
  it.each([
    ['maxTokens', { maxTokens: 0 }],
    ['temperature', { temperature: -1 }],
    ['topP', { topP: 0 }],
    ['topK', { topK: 1.5 }],
    ['minP', { minP: Number.NaN }],
    ['repetitionPenalty', { repetitionPenalty: 0 }],
    ['seed', { seed: 0.5 }],
    ['topLogprobs', { topLogprobs: 21 }],
    ['prompt', { prompt: [] }],
    ['prompt', { prompt: [97] }],
    ['prompt', { prompt: 'text' }],
    ['stop', { stop: ['x'] }],
  ])('names the field: %s', async (field, change) => {
    const request = sampler.generate({ prompt: [5], maxTokens: 1, ...change });
    await expect(request).rejects.toMatchObject({
      code: 'engine.sample.bad_request',
      message: expect.stringMatching(`^${field} `),
    });
  });
});

describe('text', () => {
  // The tiny model knows 97 tokens, of which the tokenizer makes text like any other: printable bytes.
  let writer: Sampler;
  beforeEach(() => {
    writer = createSampler({ model, tokenizer, eosTokenIds: [] });
  });
  afterEach(async () => {
    await writer.close();
  });
  const prompt = [5, 17, 42, 8];

  it('gives the text of its tokens, whole and in pieces', async () => {
    const pieces: string[] = [];
    const answer = await writer.generate({ prompt, ...greedy, onToken: ({ text }) => pieces.push(text) });
    expect(answer.text).toBe(tokenizer.decode(answer.tokens));
    expect(pieces.join('')).toBe(answer.text);
  });

  it('ends before a stop string and never shows a part of it', async () => {
    const whole = (await writer.generate({ prompt, ...greedy })).text!;
    const stop = whole.slice(5, 8);
    const pieces: string[] = [];
    const answer = await writer.generate({
      prompt,
      ...greedy,
      stop: ['never', stop],
      onToken: ({ text }) => pieces.push(text),
    });
    expect(answer).toMatchObject({ text: whole.slice(0, whole.indexOf(stop)), finishReason: 'stop' });
    expect(pieces.join('')).toBe(answer.text);
    expect(answer.tokens.length).toBeLessThan(24);
  });
});

describe('response formats', () => {
  const wide = {
    ...model.config,
    vocabSize: tokenizer.vocabSize,
  };
  // Random weights over the tokenizer's whole vocabulary: nothing but the format makes the answers JSON.
  const babbler = { config: wide, weights: initWeights(wide, 3) };
  const prompt = [5, 17, 42, 8];
  const schemas = [
    { type: 'object', properties: { a: { type: 'integer' }, b: { enum: ['x', 'y'] } }, required: ['a', 'b'] },
    { type: 'array', items: { type: 'boolean' }, minItems: 2, maxItems: 4 },
    { type: 'string', maxLength: 6 },
  ];
  const formats = schemas.map((schema) => ({ type: 'json_schema', schema }) as const);

  it('gives each request of a batch an answer in its own format, the same bits as alone', async () => {
    const writer = createSampler({ model: babbler, tokenizer, maxBatch: 4 });
    const requests = [0, 1, 2, 3, 4, 5, 6].map((seed) => {
      const format = formats[seed % 4];
      return { prompt, maxTokens: 120, seed, ...(format && { responseFormat: format }) };
    });
    const answers = await Promise.all(requests.map((request) => writer.generate(request)));
    for (const [i, answer] of answers.entries()) {
      expect(await writer.generate(requests[i]!)).toEqual(answer);
      if (requests[i]!.responseFormat === undefined || answer.finishReason === 'length') continue;
      const value: unknown = JSON.parse(answer.text!);
      expect([
        typeof value === 'object' && value !== null && 'a' in value,
        Array.isArray(value),
        typeof value === 'string',
      ]).toEqual([0, 1, 2].map((kind) => kind === i % 4));
    }
    expect(answers.filter(({ finishReason }) => finishReason === 'stop').length).toBeGreaterThan(3);
    await writer.close();
  });

  it("keeps to the format greedily and with cuts, and reports the model's own log-probabilities", async () => {
    const writer = createSampler({ model: babbler, tokenizer });
    const scorer = await createScorer({ model: babbler });
    for (const settings of [
      { temperature: 0 },
      { topK: 1, seed: 1 },
      { topP: 0.1, minP: 0.5, repetitionPenalty: 1.5, seed: 2 },
    ]) {
      const answer = await writer.generate({ prompt, maxTokens: 60, ...settings, responseFormat: formats[1]! });
      expect(answer.finishReason).toBe('stop');
      expect(JSON.parse(answer.text!)).toEqual(expect.arrayContaining([expect.any(Boolean)]));
      const [scores] = await scorer.logProbs([{ ids: [...prompt, ...answer.tokens], from: prompt.length }]);
      expect(relativeError(answer.logprobs, scores!)).toBeLessThan(1e-4);
    }
    await scorer.close();
    await writer.close();
  });

  it('refuses what it cannot honour, and vocabularies without the characters', async () => {
    const writer = createSampler({ model, tokenizer });
    const ask = (responseFormat: ResponseFormat) => writer.generate({ prompt, maxTokens: 5, responseFormat });
    await expect(ask({ type: 'json_schema', schema: { not: {} } })).rejects.toMatchObject({
      code: 'engine.sample.unsupported_schema',
      message: expect.stringContaining('#/not'),
    });
    await expect(ask({ type: 'text' } as unknown as ResponseFormat)).rejects.toThrow(/responseFormat.type/);
    // The tiny model's 97 tokens have no such character.
    await expect(ask({ type: 'regex', pattern: '\u{1f642}' })).rejects.toMatchObject({
      code: 'engine.sample.unspeakable',
    });
    await writer.close();
    const bare = createSampler({ model });
    await expect(bare.generate({ prompt, maxTokens: 1, responseFormat: { type: 'json_object' } })).rejects.toThrow(
      /^responseFormat /,
    );
    await bare.close();
  });
});

/** The engine against PyTorch, Transformers and PEFT, from the fixtures that fixtures/make_fixtures.py wrote. */
import { beforeAll, describe, expect, test } from 'vitest';
import { fixturePath, readFixture, relativeError } from '../../fixtures/fixtures.ts';
import { readPeftFolder } from '../adapters/peft.ts';
import { loraAName, loraBName } from '../models/llama.ts';
import { INPUT, type LossSpec } from '../models/losses.ts';
import { floatTensor } from '../graph/session.ts';
import type { BaseModel, LoraWeights, WeightMap } from '../types.ts';
import { loadModelFolder } from '../weights/loadModel.ts';
import { readSafetensors } from '../weights/safetensors.ts';
import { AdamW, clipFactor, globalNorm } from './adamw.ts';
import { assemble, type Batch, pickWeights, type Row } from './batch.ts';
import { createExecutor } from './createExecutor.ts';
import type { Executor } from './executor.ts';
import { rateAt } from './schedule.ts';
import { createScorer } from './scorer.ts';

const TOLERANCE = 1e-4;

interface PaddedBatch {
  readonly input_ids: number[][];
  readonly attention_mask: number[][];
  readonly labels: number[][];
}

/** The rows of a padded PyTorch batch; row r's targets go to slot `slot(r)`. */
function rowsOf(batch: PaddedBatch, slot: (r: number) => number): Row[] {
  return batch.input_ids.map((padded, r) => {
    const length = (batch.attention_mask[r] ?? []).reduce((a, b) => a + b, 0);
    const ids = padded.slice(0, length);
    const labels = batch.labels[r] ?? [];
    const picks = ids.flatMap((label, t) =>
      labels[t] === -100 ? [] : [{ column: t - 1, label, weight: 1, slot: slot(r) }],
    );
    return { segments: [{ ids }], picks };
  });
}

function sftFeeds(batch: PaddedBatch, chunks = 1): Batch['feeds'] {
  const pass = assemble(
    rowsOf(batch, () => 0),
    chunks,
  );
  return { ...pass.feeds, ...pickWeights(pass, 1, 1 / pass.picks.length) };
}

async function peftTensors(file: string): Promise<WeightMap> {
  const tensors = await readSafetensors(fixturePath(file));
  return new Map(
    [...tensors].map(([name, tensor]) => [
      name
        .replace('base_model.model.', '')
        .replace(/\.lora_A\.weight$/, '.lora_A')
        .replace(/\.lora_B\.weight$/, '.lora_B'),
      tensor,
    ]),
  );
}

const total = (values: Float32Array): number => values.reduce((a, b) => a + b, 0);

function expectAll(executor: Executor, values: readonly Float32Array[], expected: WeightMap): void {
  expect(executor.parameters.map((p) => p.name).toSorted()).toEqual([...expected.keys()].toSorted());
  executor.parameters.forEach((parameter, i) => {
    const error = relativeError(values[i]!, expected.get(parameter.name)?.data ?? []);
    expect({ name: parameter.name, close: error < TOLERANCE, error }).toMatchObject({ close: true });
  });
}

describe.each(['tiny-tied', 'tiny-untied', 'tiny-llama3rope', 'tiny-mistral', 'tiny-qwen2', 'tiny-qwen3'])(
  '%s',
  (name) => {
    test('loss of every target token', async () => {
      const model = await loadModelFolder(fixturePath(name));
      const batch = await readFixture<PaddedBatch>(`${name}/inputs.json`);
      const expected = await readSafetensors(fixturePath(`${name}/expected.safetensors`));
      const losses = expected.get('token_loss')?.data ?? new Float32Array();
      const scorer = await createScorer({ model });
      const logProbs = await scorer.scoreRows(rowsOf(batch, () => 0));
      await scorer.close();
      const targets = batch.labels.flat().flatMap((label, i) => (label === -100 ? [] : [losses[i]!]));
      expect(targets.length).toBeGreaterThan(10);
      expect(
        relativeError(
          logProbs.flatMap((row) => [...row].map((x) => -x)),
          targets,
        ),
      ).toBeLessThan(TOLERANCE);
    });
  },
);

const ways = {
  'whole graph': {},
  'layer-wise, recomputing': { executor: 'layer-wise', activations: 'recompute' },
  'layer-wise, saving': { executor: 'layer-wise', activations: 'save' },
} as const;

describe.each(Object.entries(ways))('gradients and steps on tiny-tied, %s', (_name, way) => {
  let model: BaseModel;
  let lora: LoraWeights;
  let inputs: PaddedBatch;

  beforeAll(async () => {
    model = await loadModelFolder(fixturePath('tiny-tied'));
    lora = await readPeftFolder(fixturePath('adapter'));
    inputs = await readFixture<PaddedBatch>('tiny-tied/inputs.json');
  });

  const executorFor = (loss: LossSpec, adapter?: LoraWeights, passTokens = 64): Promise<Executor> =>
    createExecutor({
      model,
      loss,
      rowLength: 64,
      passTokens,
      threads: 1,
      ...way,
      ...(adapter === undefined ? {} : { lora: adapter }),
    });

  test('full training: loss and gradient of every weight', async () => {
    const executor = await executorFor({ kind: 'sft' });
    const { loss } = await executor.gradientPass(sftFeeds(inputs));
    const expected = await readFixture<{ loss: number }>('tiny-tied/expected.json');
    expect(loss).toBeCloseTo(expected.loss, 4);
    expectAll(executor, executor.gradients, await readSafetensors(fixturePath('tiny-tied/full_grads.safetensors')));
    await executor.close();
  });

  test.each([1, 3])('LoRA with non-zero B, logits in %i parts: loss and gradient of every A and B', async (chunks) => {
    // 2^23 elements of logits make a part.
    const executor = await executorFor({ kind: 'sft' }, lora, (chunks * 2 ** 23) / model.config.vocabSize);
    expect(executor.chunks).toBe(chunks);
    const feeds = sftFeeds(inputs, chunks);
    const { loss } = await executor.gradientPass(feeds);
    expect((await executor.lossPass(feeds)).loss).toBeCloseTo(loss, 5);
    const expected = await readFixture<{ loss: number }>('lora_expected.json');
    expect(loss).toBeCloseTo(expected.loss, 4);
    expectAll(executor, executor.gradients, await peftTensors('lora_grads.safetensors'));
    await executor.close();
  });

  test.each(['plain', 'smooth', 'nll'])('DPO %s: loss, margins and gradients', async (name) => {
    interface Case {
      readonly beta: number;
      readonly label_smoothing: number;
      readonly nll_weight: number;
      readonly loss: number;
      readonly chosen_rewards: number[];
      readonly rejected_rewards: number[];
    }
    const fixture = await readFixture<{
      chosen: PaddedBatch;
      rejected: PaddedBatch;
      cases: Record<string, Case>;
    }>('dpo_expected.json');
    const expected = fixture.cases[name]!;
    const chosen = rowsOf(fixture.chosen, (r) => 2 * r);
    const rejected = rowsOf(fixture.rejected, (r) => 2 * r + 1);
    const scorer = await createScorer({ model });
    const reference = await scorer.scoreRows([...chosen, ...rejected]);
    await scorer.close();
    const pairs = chosen.length;
    const difference = chosen.map((_, i) => total(reference[i]!) - total(reference[pairs + i]!));
    const chosenTokens = chosen.reduce((n, row) => n + row.picks.length, 0);
    const executor = await executorFor(
      {
        kind: 'dpo',
        beta: expected.beta,
        labelSmoothing: expected.label_smoothing,
        nllFactor: expected.nll_weight / (chosenTokens / pairs),
      },
      lora,
    );
    const pass = assemble([...chosen, ...rejected]);
    const result = await executor.gradientPass({
      ...pass.feeds,
      ...pickWeights(pass, 2 * pairs, 1),
      [INPUT.reference]: floatTensor(Float32Array.from(difference), [pairs, 1]),
      [INPUT.pairWeights]: floatTensor(new Float32Array(pairs).fill(1 / pairs), [pairs, 1]),
    });
    expect(result.loss).toBeCloseTo(expected.loss, 4);
    const margins = expected.chosen_rewards.map((c, i) => c - expected.rejected_rewards[i]!);
    expect(relativeError(result.margins ?? [], margins)).toBeLessThan(TOLERANCE);
    expectAll(executor, executor.gradients, await peftTensors(`dpo_${name}.safetensors`));
    await executor.close();
  });

  test('ten AdamW steps with warm-up, cosine, clipping and decay', async () => {
    const fixture = await readFixture<{
      lr: number;
      betas: [number, number];
      eps: number;
      weight_decay: number;
      max_norm: number;
      warmup_steps: number;
      steps: number;
      losses: number[];
      grad_norms: number[];
      rates: number[];
      batches: PaddedBatch[];
    }>('adamw_expected.json');
    const start = await readPeftFolder(fixturePath('adapter'));
    const executor = await executorFor({ kind: 'sft' }, start);
    const optimizer = new AdamW(executor.parameters, {
      betas: fixture.betas,
      eps: fixture.eps,
      weightDecay: fixture.weight_decay,
    });
    const schedule = {
      kind: 'cosine' as const,
      totalSteps: fixture.steps,
      warmupRatio: fixture.warmup_steps / fixture.steps,
      finalRatio: 0,
    };
    for (let step = 0; step < fixture.steps; step++) {
      const { loss } = await executor.gradientPass(sftFeeds(fixture.batches[step % 2]!));
      const norm = globalNorm(executor.gradients);
      const rate = fixture.lr * rateAt(schedule, step);
      expect(rate).toBeCloseTo(fixture.rates[step]!, 8);
      expect(loss).toBeCloseTo(fixture.losses[step]!, 4);
      expect(norm / fixture.grad_norms[step]!).toBeCloseTo(1, 4);
      optimizer.update(executor.gradients, step + 1, rate, clipFactor(norm, fixture.max_norm));
    }
    expectAll(
      executor,
      executor.parameters.map((p) => p.data),
      await peftTensors('adamw_final.safetensors'),
    );
    expect(executor.parameters.map((p) => p.name)).toContain(loraAName('model.layers.0.self_attn.q_proj'));
    expect(executor.parameters.map((p) => p.name)).toContain(loraBName('model.layers.1.mlp.down_proj'));
    await executor.close();
  });
});

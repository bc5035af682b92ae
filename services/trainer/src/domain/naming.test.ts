import { describe, expect, it } from 'vitest';
import { resolveSettings } from './defaults.ts';
import { jobIdOf, ownHyperparameters, requestedMethod, shownHyperparameters } from './fineTuningJob.ts';
import { fineTunedModelName } from './modelName.ts';
import { quarterOf, refreshedShare } from './period.ts';

const ID = '01a1fc0f-3adf-741b-9d4e-b4c22ad7ed50';

describe('fineTunedModelName', () => {
  it.each([
    ['nano', 'shop', 'default', 'ft:nano:shop:default:b4c22ad7ed50'],
    ['HuggingFaceTB/SmolLM2-135M', 'shop', null, 'ft:huggingfacetb-smollm2-135m:shop::b4c22ad7ed50'],
    ['nano', 'shop', 'My: brand/é!', 'ft:nano:shop:my-brand:b4c22ad7ed50'],
  ])('names a model of %s', (baseModel, projectSlug, suffix, name) => {
    expect(fineTunedModelName({ baseModel, projectSlug, suffix, checkpointId: ID })).toBe(name);
  });
});

describe('settings', () => {
  const job = { baseModel: 'other', method: 'dpo' as const, seed: 3 };

  it('takes the method’s defaults, bounded by the model', () => {
    const { hyper, lora } = resolveSettings(job, {}, 512);
    expect(hyper).toMatchObject({ epochs: 3, maxLength: 512, seed: 3, dpo: { beta: 0.1, nllWeight: 0.1 } });
    expect(lora).toMatchObject({ r: 16, alpha: 32 });
  });

  it('puts the job’s own words over them and keeps the adapter’s scale', () => {
    const asked = { n_epochs: 1, learning_rate: 0.5, beta: 0.9, lora_r: 4 };
    const { hyper, lora } = resolveSettings(job, asked, 4096);
    expect(hyper).toMatchObject({ epochs: 1, learningRate: 0.5, dpo: { beta: 0.9, nllWeight: 0.1 } });
    expect(lora).toMatchObject({ r: 4, alpha: 8 });
    expect(resolveSettings({ ...job, method: 'sft' }, asked, 4096).hyper.dpo).toBeUndefined();
  });
});

describe('OpenAI’s hyperparameters', () => {
  const request = { model: 'm', training_file: 'f' };

  it('come from the method, else from the older place', () => {
    const method = { type: 'dpo' as const, dpo: { hyperparameters: { n_epochs: 2, beta: 0.3 } } };
    expect(requestedMethod({ ...request, method, hyperparameters: { n_epochs: 9 } })).toEqual({
      type: 'dpo',
      hyperparameters: { n_epochs: 2, batch_size: 'auto', learning_rate_multiplier: 'auto', beta: 0.3 },
    });
    expect(requestedMethod({ ...request, hyperparameters: { n_epochs: 9 } })).toEqual({
      type: 'supervised',
      hyperparameters: { n_epochs: 9, batch_size: 'auto', learning_rate_multiplier: 'auto' },
    });
  });

  it('become ours, and are shown as they were used', () => {
    const asked = { n_epochs: 'auto', batch_size: 2, learning_rate_multiplier: 2, beta: 'auto' } as const;
    expect(ownHyperparameters('other', 'dpo', asked)).toEqual({ batch_size: 2, learning_rate: 1e-4 });
    const settings = resolveSettings({ baseModel: 'other', method: 'dpo', seed: 1 }, { batch_size: 2 }, 1024);
    expect(shownHyperparameters(asked, null)).toEqual(asked);
    expect(shownHyperparameters(asked, settings)).toEqual({
      n_epochs: 3,
      batch_size: 2,
      learning_rate_multiplier: 2,
      beta: 0.1,
    });
  });

  it.each([`ftjob-${ID}x`, ID, 'ftjob-', `ftjob_${ID}`])('does not take %s for a job', (id) => {
    expect(jobIdOf(id)).toBeUndefined();
  });
});

describe('spending periods', () => {
  it('name the quarter in UTC', () => {
    expect(quarterOf(new Date('2026-12-31T23:59:59Z'))).toBe('2026-Q4');
    expect(quarterOf(new Date('2027-01-01T00:00:00Z'))).toBe('2027-Q1');
  });

  it('count test groups that are new', () => {
    expect(refreshedShare(['a', 'b'], ['b', 'c', 'd', 'e'])).toBe(0.75);
    expect(refreshedShare(null, ['a'])).toBe(0);
    expect(refreshedShare(['a'], [])).toBe(0);
  });
});

import type { FineTuningJob, FineTuningJobRequest } from '@tuneloop/contracts/trainer/openai';
import type { Hyperparameters, TrainingSettings } from './defaults.ts';
import { scaledLearningRate } from './defaults.ts';
import type { JobStatus, LocalMethod } from './job.ts';

type Shown = Readonly<Record<string, number | 'auto'>>;
type Asked = Readonly<Record<string, unknown>>;

/** What OpenAI calls our states. Its job has succeeded when the training has; promotion is another matter. */
const STATUS: Readonly<Record<JobStatus, FineTuningJob['status']>> = {
  pending: 'validating_files',
  waiting_for_dataset: 'validating_files',
  uploading: 'validating_files',
  validating: 'validating_files',
  queued: 'queued',
  training: 'running',
  paused: 'paused',
  evaluating: 'succeeded',
  completed: 'succeeded',
  failed: 'failed',
  cancelled: 'cancelled',
};

export function openAiStatus(status: JobStatus): FineTuningJob['status'] {
  return STATUS[status];
}

const ID_PREFIX = 'ftjob-';
const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

export function openAiJobId(id: string): string {
  return `${ID_PREFIX}${id}`;
}

/** The uuid behind `<prefix><uuid>`; undefined for anything else. */
export function idAfter(prefix: string, text: string): string | undefined {
  const id = text.startsWith(prefix) ? text.slice(prefix.length) : '';
  return UUID.test(id) ? id : undefined;
}

export function jobIdOf(openAiId: string): string | undefined {
  return idAfter(ID_PREFIX, openAiId);
}

export interface RequestedMethod {
  readonly type: 'supervised' | 'dpo' | 'reinforcement';
  /** As asked for, `auto` where nothing was said. */
  readonly hyperparameters: Shown;
}

/** The method and its hyperparameters, from `method` or from the older top-level place. */
export function requestedMethod(request: FineTuningJobRequest): RequestedMethod {
  const type = request.method?.type ?? 'supervised';
  const nested = type === 'reinforcement' ? undefined : request.method?.[type]?.hyperparameters;
  const asked: Asked = nested ?? request.hyperparameters ?? {};
  const names = ['n_epochs', 'batch_size', 'learning_rate_multiplier', ...(type === 'dpo' ? ['beta'] : [])];
  const hyperparameters: Record<string, number | 'auto'> = {};
  for (const name of names) {
    const value = asked[name];
    hyperparameters[name] = typeof value === 'number' ? value : 'auto';
  }
  return { type, hyperparameters };
}

/** OpenAI's hyperparameters as ours; `auto` is the method's default. */
export function ownHyperparameters(baseModel: string, method: LocalMethod, asked: Shown): Hyperparameters {
  const { n_epochs: epochs, batch_size: batch, learning_rate_multiplier: multiplier, beta } = asked;
  return {
    ...(typeof epochs === 'number' ? { n_epochs: epochs } : {}),
    ...(typeof batch === 'number' ? { batch_size: batch } : {}),
    ...(typeof multiplier === 'number' ? { learning_rate: scaledLearningRate(baseModel, method, multiplier) } : {}),
    ...(typeof beta === 'number' ? { beta } : {}),
  };
}

/** As a client sees them: what `auto` became, once it is known. */
export function shownHyperparameters(asked: Shown, settings: TrainingSettings | null): Record<string, number | 'auto'> {
  if (!settings) return { ...asked };
  const { epochs, batchSize, dpo } = settings.hyper;
  const multiplier = asked.learning_rate_multiplier;
  return {
    ...asked,
    n_epochs: epochs,
    batch_size: batchSize,
    learning_rate_multiplier: typeof multiplier === 'number' ? multiplier : 1,
    ...('beta' in asked && dpo?.beta !== undefined ? { beta: dpo.beta } : {}),
  };
}

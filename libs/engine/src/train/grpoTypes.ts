/** What a GRPO run is given, and what its reward function sees. */
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { GrpoHyper, LoraWeights, TokenIds, TrainerCommon } from '../types.ts';

/** One sampled completion, to be given a reward. */
export interface Rollout {
  /** Index in the trainer's `prompts`; of a held-out completion in `evaluation.prompts`. */
  readonly promptIndex: number;
  /** Sampled to be measured, not learned from. */
  readonly heldOut?: true;
  readonly prompt: TokenIds;
  /** What was sampled, the stop token included. */
  readonly completion: readonly number[];
  /** The decoded completion without its stop token, when the trainer has a tokenizer. */
  readonly text?: string;
  /** `length`: cut at `maxTokens`. */
  readonly finishReason: 'stop' | 'length';
}

/** Rewards of a step's completions, in their order: any finite numbers, higher is better. */
export type RewardFunction = (
  rollouts: readonly Rollout[],
  signal?: AbortSignal,
) => readonly number[] | Promise<readonly number[]>;

export interface GrpoTrainerOptions
  extends Pick<
    TrainerCommon,
    | 'model'
    | 'threads'
    | 'executor'
    | 'activations'
    | 'memoryBudgetBytes'
    | 'checkpoint'
    | 'resumeFrom'
    | 'onProgress'
    | 'signal'
  > {
  /** Trained on; the caller's tensors stay untouched. */
  readonly lora: LoraWeights;
  /** Token ids to continue. A run goes through them in a new order each time round. */
  readonly prompts: readonly TokenIds[];
  readonly reward: RewardFunction;
  /** Prompts that are not trained on; every so many steps and at the end `samples` completions of each (default 1) are judged. */
  readonly evaluation?: {
    readonly prompts: readonly TokenIds[];
    readonly everySteps: number;
    readonly samples?: number;
  };
  readonly hyper: GrpoHyper;
  /** Needed for `text` in rollouts. */
  readonly tokenizer?: Tokenizer;
  /** Tokens that end a completion. Default: the tokenizer's `eos_token`. */
  readonly eosTokenIds?: readonly number[];
  /** What the KL term is measured against, with `beta` above 0 (default 'base'). */
  readonly reference?: 'base' | LoraWeights;
}

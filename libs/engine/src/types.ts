/**
 * The vocabulary of the engine: what a model, an adapter, a training run and a scorer are. Types only, no behaviour.
 * Weight names and shapes are Hugging Face's: `model.layers.0.self_attn.q_proj.weight` is `[out, in]`.
 */

/** A dense float32 tensor, row-major. `data.length` is the product of `dims`. */
export interface Tensor {
  readonly dims: readonly number[];
  readonly data: Float32Array;
}

/**
 * A matrix `[out, in]` in 4-bit codes with a scale for each block of `blockSize` neighbouring inputs. With q a code, 0 to 15:
 * w = scale (q - 8) without `mins` (what GGUF calls Q4_0), w = scale q + min with them (Q4_1).
 */
export interface QuantizedTensor {
  readonly bits: 4;
  readonly dims: readonly [out: number, in_: number];
  /** 16, 32, 64, 128 or 256; `in` is a multiple of it. */
  readonly blockSize: number;
  /** `[out, in / 2]`: the even input of a pair in the low half of its byte, the odd one in the high half. */
  readonly codes: Uint8Array;
  /** `[out, in / blockSize]` */
  readonly scales: Float32Array;
  /** `[out, in / blockSize]` */
  readonly mins?: Float32Array;
}

export type Weight = Tensor | QuantizedTensor;

/** Parameters by Hugging Face name. A tied head (`lm_head.weight`) is absent. */
export type WeightMap = Map<string, Tensor>;
/** Matrices in 4 bits by the same names. */
export type QuantizedMap = ReadonlyMap<string, QuantizedTensor>;

export type RopeScaling =
  | { readonly type: 'linear'; readonly factor: number }
  | {
      readonly type: 'llama3';
      readonly factor: number;
      readonly lowFreqFactor: number;
      readonly highFreqFactor: number;
      readonly originalMaxPositions: number;
    }
  | {
      readonly type: 'yarn';
      readonly factor: number;
      readonly originalMaxPositions: number;
      readonly betaFast: number;
      readonly betaSlow: number;
      /** Multiplies cosines and sines. */
      readonly attentionFactor: number;
      /** Whether the bounds of the blend are rounded to whole dimensions. */
      readonly truncate: boolean;
    }
  /** Dynamic NTK stretches only texts longer than `maxPositions`, which the engine does not take: up to there it is plain. */
  | { readonly type: 'dynamic'; readonly factor: number }
  /** A divisor for the frequency of each pair of dimensions, `[headDim / 2]`: what GGUF files keep of other scalings. */
  | { readonly type: 'factors'; readonly factors: readonly number[] };

/** Llama-family architecture, as `config.json` states it. */
export interface ModelConfig {
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly numLayers: number;
  readonly numHeads: number;
  readonly numKvHeads: number;
  readonly headDim: number;
  readonly vocabSize: number;
  readonly maxPositions: number;
  readonly rmsNormEps: number;
  readonly ropeTheta: number;
  readonly ropeScaling?: RopeScaling;
  readonly tieWordEmbeddings: boolean;
  /** Biases on q, k and v (Qwen2). */
  readonly attentionBias?: boolean;
  /** RMSNorm over each head of q and k before RoPE (Qwen3). */
  readonly qkNorm?: boolean;
}

export interface BaseModel {
  readonly config: ModelConfig;
  readonly weights: WeightMap;
  /**
   * Matrices held in 4 bits: frozen, used by LoRA training, scoring and sampling. A projection is here or in `weights`. A
   * head (`lm_head.weight`) may be here beside a tied embedding, which then serves look-ups only.
   */
  readonly quantized?: QuantizedMap;
}

export const LORA_TARGETS = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'] as const;
export type LoraTarget = (typeof LORA_TARGETS)[number];

export interface LoraConfig {
  readonly r: number;
  /** The update is scaled by alpha / r. */
  readonly alpha: number;
  readonly targets: readonly LoraTarget[];
  /** Only 0 is supported: dropout would make the loss of a resumed run depend on a generator's state. */
  readonly dropout: 0;
  /** Some layers may lack some of the targets, as an adapter may that was made with a regular expression (default false). */
  readonly partial?: boolean;
}

/** One adapted module: the update to its weight is (alpha / r) B A. */
export interface LoraPair {
  /** `[r, in]` */
  readonly a: Tensor;
  /** `[out, r]` */
  readonly b: Tensor;
}

export interface LoraWeights {
  readonly config: LoraConfig;
  /** By module name without `.weight`: `model.layers.0.self_attn.q_proj`. */
  readonly tensors: Map<string, LoraPair>;
}

export type TokenIds = Int32Array | readonly number[];

/** One training text. `lossWeights[t]` weighs the prediction of `ids[t]` from the tokens before it; index 0 is ignored. */
export interface SftExample {
  readonly ids: TokenIds;
  readonly lossWeights: Float32Array | readonly number[];
}

/** One preference: token ids of the prompt and of two continuations (each with its end token where it has one). */
export interface DpoExample {
  readonly prompt: TokenIds;
  readonly chosen: TokenIds;
  readonly rejected: TokenIds;
}

/** One judged text: token ids of the prompt and of the completion (with its end token where it has one). */
export interface KtoExample {
  readonly prompt: TokenIds;
  readonly completion: TokenIds;
  readonly desirable: boolean;
}

/** One preference for a reward model: which of two texts is better, in one of the head's dimensions. */
export interface RewardPair {
  /** Comes before both texts; may be empty. */
  readonly prompt: TokenIds;
  readonly chosen: TokenIds;
  readonly rejected: TokenIds;
  /** Default: the head's first. */
  readonly dimension?: string;
  /** By how much the chosen text's reward should be above the other's (default 0). */
  readonly margin?: number;
}

/** One text for a reward model with the reward it should get in some or all dimensions. */
export interface ScoredText {
  readonly ids: TokenIds;
  readonly scores: Readonly<Record<string, number>>;
}

/** What turns the state of a text's last token into rewards, one for each dimension. */
export interface RewardHead {
  readonly dimensions: readonly string[];
  /** `[dimensions, hidden]` */
  readonly weight: Tensor;
}

export interface RewardHyper {
  /** Pairs: weight of (r(chosen) + r(rejected))^2, which keeps rewards around 0 (default 0). */
  readonly centre?: number;
}

export interface KtoHyper {
  /** Strength of the pull to the reference (default 0.1). */
  readonly beta?: number;
  /** Weight of a desirable text's loss; default: 1, or what makes the rarer kind count as much as the other in sum. */
  readonly desirableWeight?: number;
  /** Likewise for undesirable texts. */
  readonly undesirableWeight?: number;
}

export interface DpoHyper {
  /** Strength of the pull to the reference (default 0.1). */
  readonly beta?: number;
  /** Weight of -log p(chosen) / nllDivisor added to each pair's loss (default 0). */
  readonly nllWeight?: number;
  /** Probability that a label is flipped, as in conservative DPO (default 0). */
  readonly labelSmoothing?: number;
  /** Constant divisor of the NLL sum, in tokens; default: mean length of the chosen texts over the whole dataset. */
  readonly nllDivisor?: number;
}

export interface EarlyStoppingOptions {
  /** Evaluations in a row without a lower loss (GRPO: a higher reward) after which the run ends. */
  readonly patience: number;
  /** By how much a loss must be lower than the best to count (default 0). */
  readonly minDelta?: number;
}

export interface TrainingHyper {
  readonly epochs: number;
  /** Sequences (SFT, KTO), packed rows (SFT with packing) or pairs (DPO, reward) in one forward and backward pass. */
  readonly batchSize: number;
  /** Passes whose gradients are summed into one optimiser step (default 1). */
  readonly gradientAccumulation?: number;
  /** Longer texts are cut at the end (SFT) or refused (DPO, KTO, reward). With packing, also the length of a row. */
  readonly maxLength: number;
  /** SFT only: several texts in one row, each seeing only itself, positions from 0 (default false). */
  readonly packing?: boolean;
  readonly learningRate: number;
  readonly schedule?: 'cosine' | 'linear' | 'constant';
  /** Share of all steps over which the rate rises from 0 (default 0). */
  readonly warmupRatio?: number;
  /** The rate at the end of the schedule as a share of `learningRate` (default 0). */
  readonly finalRatio?: number;
  /** Decoupled decay, on matrices only, never on norms and biases (default 0). */
  readonly weightDecay?: number;
  readonly betas?: readonly [number, number];
  readonly eps?: number;
  /** Global norm to which gradients are clipped; 0 turns clipping off (default 1). */
  readonly maxGradNorm?: number;
  readonly seed: number;
  /**
   * SFT: divide the weighted loss of a step by the step's total weight ('tokens', the default), or by the mean weight of
   * a step over the dataset ('constant'), so that a text counts the same in whichever batch it falls.
   */
  readonly lossDivisor?: 'tokens' | 'constant';
  /**
   * End when the evaluation loss no longer falls, and return what was trained when it was lowest. Needs `evaluation`. The
   * learning rate still falls as if the run went on to its end.
   */
  readonly earlyStopping?: EarlyStoppingOptions;
  readonly dpo?: DpoHyper;
  readonly kto?: KtoHyper;
  readonly reward?: RewardHyper;
}

export interface TrainProgress {
  /** Optimiser steps done, from 1. */
  readonly step: number;
  readonly totalSteps: number;
  /** Epochs done as a fraction. */
  readonly epoch: number;
  readonly loss: number;
  readonly learningRate: number;
  /** Before clipping. */
  readonly gradNorm: number;
  readonly tokensPerSecond: number;
  /** DPO: mean of beta (log-ratio of chosen - log-ratio of rejected). Reward: mean of r(chosen) - r(rejected). */
  readonly rewardMargin?: number;
  /** Share of what the policy has on the right side: pairs with a positive margin (DPO, reward), texts by their verdict (KTO). */
  readonly accuracy?: number;
  /** Estimate of KL(policy, reference), at least 0: KTO of a pass's texts, GRPO with a KL term of a token. */
  readonly divergence?: number;
  /** KTO: mean of beta log-ratio over desirable texts. */
  readonly desirableReward?: number;
  /** KTO: likewise over undesirable ones. */
  readonly undesirableReward?: number;
  readonly evalLoss?: number;
  /** GRPO: mean reward of the step's completions, and the mean deviation within a group. */
  readonly reward?: number;
  readonly rewardStd?: number;
  /** GRPO: mean reward of completions of the held-out prompts. */
  readonly evalReward?: number;
  /** GRPO: mean length of the completions, in tokens. */
  readonly completionLength?: number;
  /** GRPO: share of tokens whose ratio the clip held back. */
  readonly clipShare?: number;
}

export interface CheckpointOptions {
  /** Save after every so many optimiser steps, and when cancelled. */
  readonly everySteps: number;
  /** Receives the whole training state; training waits for it. */
  readonly save: (state: Uint8Array, step: number) => Promise<void>;
}

export interface TrainerCommon {
  readonly model: BaseModel;
  /** Present: train this adapter, the base stays frozen. Absent: train every weight. The caller's tensors stay untouched. */
  readonly lora?: LoraWeights;
  readonly hyper: TrainingHyper;
  /** Intra-op threads of ONNX Runtime (default 1). */
  readonly threads?: number;
  /**
   * Default 'auto': the fastest whose estimated memory fits; `manifest.executorReason` says which and why. A saved state is
   * resumed by the executor that made it, since the last bits differ.
   */
  readonly executor?: ExecutorKind | 'auto';
  /** For 'layer-wise' (default 'auto': saved if that fits). */
  readonly activations?: ActivationPolicy | 'auto';
  /** Bytes that the process may hold at its peak, the model included. Default: most of what the machine has free. */
  readonly memoryBudgetBytes?: number;
  readonly checkpoint?: CheckpointOptions;
  /** State given to `checkpoint.save` by a run with the same model, data and hyper-parameters. */
  readonly resumeFrom?: Uint8Array;
  readonly onProgress?: (progress: TrainProgress) => void;
  /** Cancels within one step: the state is saved (if `checkpoint` is given) and `run` rejects with TrainingCancelled. */
  readonly signal?: AbortSignal;
}

export interface SftTrainerOptions extends TrainerCommon {
  readonly task: 'sft';
  readonly data: readonly SftExample[];
  readonly evaluation?: { readonly data: readonly SftExample[]; readonly everySteps: number };
}

export interface DpoTrainerOptions extends TrainerCommon {
  readonly task: 'dpo';
  readonly data: readonly DpoExample[];
  readonly evaluation?: { readonly data: readonly DpoExample[]; readonly everySteps: number };
  /** What log-ratios are measured against: the base, or a frozen adapter (a copy of the one training continues from). */
  readonly reference: 'base' | LoraWeights;
}

export interface KtoTrainerOptions extends TrainerCommon {
  readonly task: 'kto';
  readonly data: readonly KtoExample[];
  readonly evaluation?: { readonly data: readonly KtoExample[]; readonly everySteps: number };
  /** As for DPO. */
  readonly reference: 'base' | LoraWeights;
}

/** Trains an adapter together with a head that gives rewards. */
export interface RewardTrainerOptions extends TrainerCommon {
  readonly task: 'reward';
  readonly lora: LoraWeights;
  /** Train on from this head; default: a fresh one with the single dimension `reward`, see `initRewardHead`. */
  readonly head?: RewardHead;
  readonly data: readonly RewardPair[] | readonly ScoredText[];
  /** Of the same kind as `data`. */
  readonly evaluation?: { readonly data: readonly RewardPair[] | readonly ScoredText[]; readonly everySteps: number };
}

export type TrainerOptions = SftTrainerOptions | DpoTrainerOptions | KtoTrainerOptions | RewardTrainerOptions;

/**
 * How passes are computed: the model as one graph (faster, above all for small models), or layer by layer in a fraction of
 * the memory.
 */
export type ExecutorKind = 'whole-graph' | 'layer-wise';

/**
 * What the backward pass of a layer finds ready when training goes layer by layer: 'recompute' only the layer's input,
 * 'save' also every matrix product that it needs again.
 */
export type ActivationPolicy = 'recompute' | 'save';

/** Group relative policy optimisation (https://arxiv.org/abs/2402.03300); the variant is named, every default is TRL's but `lossType`. */
export interface GrpoHyper {
  /** Rounds of sampling and learning. */
  readonly steps: number;
  /** Prompts of a step (default 4). */
  readonly promptsPerStep?: number;
  /** Completions of each prompt: the group whose mean is the baseline (default 8, at least 2). */
  readonly groupSize?: number;
  /** Upper bound of a completion, in tokens. */
  readonly maxTokens: number;
  /** Texts in one forward and backward pass (default: all of a step). */
  readonly batchSize?: number;
  /** Updates from one step's completions (default 1). */
  readonly numIterations?: number;
  /** How tokens are weighed: 'grpo' each text alike (default), 'bnpo' each token alike, 'dr_grpo' over a constant. */
  readonly lossType?: 'grpo' | 'dr_grpo' | 'bnpo';
  /** Deviation that advantages are divided by: the group's (default), that of all of the step, or none. */
  readonly scaleRewards?: 'group' | 'batch' | 'none';
  /** Weight of the KL term to the reference (default 0: no reference). */
  readonly beta?: number;
  /** Multiply the KL term by the ratio, as DeepSeek-V3.2 and TRL do (default true). */
  readonly klCorrection?: boolean;
  /** Ratios are clipped to 1 - epsilon and 1 + epsilonHigh (default 0.2, and epsilonHigh as epsilon). */
  readonly epsilon?: number;
  readonly epsilonHigh?: number;
  readonly learningRate: number;
  /** Default 'constant'. */
  readonly schedule?: TrainingHyper['schedule'];
  readonly warmupRatio?: number;
  readonly finalRatio?: number;
  readonly weightDecay?: number;
  readonly betas?: readonly [number, number];
  readonly eps?: number;
  readonly maxGradNorm?: number;
  readonly seed: number;
  /** End when the mean held-out reward no longer rises, and return what was trained when it was highest. */
  readonly earlyStopping?: EarlyStoppingOptions;
}

/** What one way of computing passes takes, told before anything is compiled. */
export interface ExecutorEstimate {
  readonly executor: ExecutorKind;
  readonly activations?: ActivationPolicy;
  /** Peak resident memory of the process: what it holds now (the model's weights, that is) and what training adds. */
  readonly memoryBytes: number;
  /** Floating point operations of the matrix products of one pass of the greatest size. */
  readonly flopPerPass: number;
}

/** Memory and time of training, to be compared with `peakRssBytes` and `seconds` of the result. */
export interface TrainingEstimate extends ExecutorEstimate {
  /** Of one pass of the greatest size, by the speed of a matrix product measured just now. */
  readonly secondsPerPass: number;
}

/** What numbers depend on besides the data: same manifest, same data, same bytes. */
export interface EngineManifest {
  readonly executor: ExecutorKind;
  /** Of the layer-wise executor. */
  readonly activations?: ActivationPolicy;
  readonly executorReason: string;
  readonly ortVersion: string;
  readonly threads: number;
  readonly cpu: { readonly model: string; readonly arch: string; readonly flags: readonly string[] };
}

export interface TrainResult {
  /** The trained adapter (LoRA runs). */
  readonly lora?: LoraWeights;
  /** The trained reward head (reward runs). */
  readonly rewardHead?: RewardHead;
  /** The trained weights (full runs). */
  readonly weights?: WeightMap;
  readonly steps: number;
  /** With early stopping: the step whose parameters these are, and the evaluation loss there (GRPO: minus the held-out reward). */
  readonly best?: { readonly step: number; readonly evalLoss: number };
  readonly firstLoss: number;
  readonly lastLoss: number;
  /** Tokens computed in this process, prompts included, padding left out. */
  readonly tokens: number;
  readonly seconds: number;
  /** Of this process from its start. */
  readonly peakRssBytes: number;
  /** What was expected before the run. */
  readonly estimate: TrainingEstimate;
  readonly manifest: EngineManifest;
}

export interface Trainer {
  readonly totalSteps: number;
  /** What the run is expected to take. */
  readonly estimate: TrainingEstimate;
  /** Why passes are computed as they will be; the manifest says it too. */
  readonly executorReason: string;
  /** Runs to the end once. Rejects with TrainingCancelled when the signal aborts. */
  run(): Promise<TrainResult>;
  /**
   * Stops a running trainer before its next step. Gives the state for `resumeFrom`, after saving it too if `checkpoint` is
   * given; `run` rejects with TrainingCancelled. Rejects when the run ends or fails first.
   */
  pause(): Promise<Uint8Array>;
}

/** One text to score: log-probabilities are returned for `ids[from..]` (default 1, the first token that has a context). */
export interface ScoreRequest {
  readonly ids: TokenIds;
  readonly from?: number;
}

export interface ScoreOptions {
  /** Multiplies the adapter's alpha / r (default 1); 0 is the base. */
  readonly scale?: number;
  readonly signal?: AbortSignal;
}

export interface Scorer {
  /** For each request, log p(ids[t] | ids[..t)) for t = from, ..., in request order. */
  logProbs(requests: readonly ScoreRequest[], lora?: LoraWeights, options?: ScoreOptions): Promise<Float32Array[]>;
  close(): Promise<void>;
}

export interface ScorerOptions {
  readonly model: BaseModel;
  readonly threads?: number;
  /** Upper bound of padded tokens in one pass (default 4096). */
  readonly batchTokens?: number;
}

// Entry points: `createTrainer(options: TrainerOptions): Promise<Trainer>` in train/trainer.ts and
// `createScorer(options: ScorerOptions): Promise<Scorer>` in train/scorer.ts.

/** The clipped policy loss of GRPO with its KL term, as one operation on log-probabilities. */
import { type Graph, int, type Value } from '../graph/graph.ts';
import { added } from '../graph/ops/arithmetic.ts';

export interface GrpoLoss {
  readonly kind: 'grpo';
  /** Weight of the KL term; 0 leaves it out. */
  readonly beta: number;
  /** The ratio is clipped to [1 - epsilonLow, 1 + epsilonHigh]. */
  readonly epsilonLow: number;
  readonly epsilonHigh: number;
  /** Multiply the KL term by the ratio, which makes its gradient that of the reverse KL. */
  readonly klCorrection: boolean;
}

/** Values of one pass, all `[picked, 1]` but `started`. */
export interface GrpoInputs {
  readonly logProbs: Value;
  /** log-probabilities when the texts were sampled. */
  readonly old: Value;
  /** `[1, 1]`: 0 while the policy is still the one that sampled; its ratios are then 1, whatever `old` holds. */
  readonly started: Value;
  readonly reference: Value;
  readonly advantages: Value;
  /** Share of each token in the loss, not negative; 0 for padding. */
  readonly weights: Value;
}

/**
 * sum over tokens of w [-min(ratio A, clip(ratio) A) + beta k], with ratio = exp(log p - old) and
 * k = exp(d) - d - 1, d = reference - log p (https://arxiv.org/abs/2402.03300, equations 3 and 4); with `klCorrection` k is
 * multiplied by the ratio (https://arxiv.org/abs/2512.02556, section 3.1).
 *
 * d / d log p of a token's policy term is -ratio A where the minimum is the unclipped product, else 0; of k it is
 * 1 - exp(d), corrected ratio (k + 1 - exp(d)).
 */
export function grpoLoss(graph: Graph, inputs: GrpoInputs, spec: GrpoLoss): Value {
  const { logProbs, old, started, reference, advantages, weights } = inputs;
  const dims = logProbs.dims;
  const op = (name: string, ...of: Value[]): Value => graph.node(name, of, dims);
  // Padding has log-probabilities of nothing in particular: its exponents are 0, not something that may overflow.
  const real = op('Sign', weights);
  const ratio = op('Exp', op('Mul', op('Mul', op('Sub', logProbs, old), real), started));
  const low = graph.scalar(1 - spec.epsilonLow);
  const high = graph.scalar(1 + spec.epsilonHigh);
  const plain = op('Mul', ratio, advantages);
  const clipped = op('Mul', op('Clip', ratio, low, high), advantages);
  let perToken = op('Neg', op('Min', plain, clipped));
  const kl = spec.beta === 0 ? undefined : klTerm(graph, logProbs, reference, real);
  if (kl !== undefined) {
    const value = spec.klCorrection ? op('Mul', kl.value, ratio) : kl.value;
    perToken = op('Add', perToken, op('Mul', value, graph.scalar(spec.beta)));
  }
  const axes = graph.int64s([0, 1]);
  const loss = graph.node('ReduceSum', [op('Mul', perToken, weights), axes], [], { attributes: { keepdims: int(0) } });
  return graph.record([logProbs], loss, (dy) => [
    added(graph, () => {
      const open = graph.node('LessOrEqual', [plain, clipped], dims);
      const active = graph.node('Cast', [open], dims, { attributes: { to: int(FLOAT) } });
      let slope = op('Neg', op('Mul', plain, active));
      if (kl !== undefined) {
        const bent = spec.klCorrection ? op('Mul', op('Add', kl.value, kl.slope), ratio) : kl.slope;
        slope = op('Add', slope, op('Mul', bent, graph.scalar(spec.beta)));
      }
      return op('Mul', op('Mul', slope, weights), dy);
    }),
  ]);
}

/** TensorProto.FLOAT */
const FLOAT = 1;

/** k and d k / d log p. */
function klTerm(graph: Graph, logProbs: Value, reference: Value, real: Value): { value: Value; slope: Value } {
  const op = (name: string, ...of: Value[]): Value => graph.node(name, of, logProbs.dims);
  const d = op('Mul', op('Sub', reference, logProbs), real);
  const e = op('Exp', d);
  const slope = op('Sub', graph.scalar(1), e);
  return { value: op('Neg', op('Add', slope, d)), slope };
}

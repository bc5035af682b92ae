/**
 * Perplexity of a token sequence: exp of the mean negative log-likelihood.
 *
 * @param logProbabilities natural logarithms, one per predicted token
 */
export function perplexity(logProbabilities: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < logProbabilities.length; i++) sum -= logProbabilities[i]!;
  return perplexityFromNll(sum, logProbabilities.length);
}

/**
 * Perplexity of a corpus from its sums; every token counts the same, so do not average per-text perplexities.
 *
 * @param negativeLogLikelihood summed over all predicted tokens, in nats
 * @param tokens how many tokens were predicted; RangeError when none
 */
export function perplexityFromNll(negativeLogLikelihood: number, tokens: number): number {
  if (!(tokens > 0)) throw new RangeError('perplexity of no tokens');
  return Math.exp(negativeLogLikelihood / tokens);
}

import type { Client } from '@tuneloop/client/client';
import { createFeedbackBatch, MAX_FEEDBACK_BATCH } from '@tuneloop/contracts/rewards/http';
import { parseDescription } from '@tuneloop/nano/facts';
import { createRandom } from '@tuneloop/nano/random';
import { rateStars, tasteNamed } from '@tuneloop/nano/taste';
import { bar, type Terminal } from '../start/terminal.ts';
import type { Prompt } from './pictures.ts';

export interface ReviewOptions {
  readonly seed: number;
  readonly taste: string;
  /** Ratings are dealt out at random among a prompt's answers: nothing can be learned from them. */
  readonly shuffled: boolean;
}

/**
 * The scripted reviewer: reads each prompt and its answers as a person would see them, and rates every answer by its
 * stated taste, with a person's noise. All of it is marked synthetic. Returns how many ratings were taken.
 */
export async function reviewAnswers(
  client: Client,
  prompts: readonly Prompt[],
  options: ReviewOptions,
  terminal: Terminal,
): Promise<number> {
  const taste = tasteNamed(options.taste);
  const random = createRandom(`reviewer-${options.seed}`);
  const items = prompts.flatMap((prompt) => {
    const facts = parseDescription(prompt.text);
    const stars = prompt.responses.map((response) => rateStars(random, taste, facts, response.response_text));
    const given = options.shuffled ? random.shuffled(stars) : stars;
    return prompt.responses.map((response, index) => ({
      kind: 'stars',
      response_id: response.id,
      value: given[index]!,
      user_id: 'scripted-reviewer',
      synthetic: true,
    }));
  });
  let taken = 0;
  for (let from = 0; from < items.length; from += MAX_FEEDBACK_BATCH) {
    const answer = await client.call(
      createFeedbackBatch,
      { body: { items: items.slice(from, from + MAX_FEEDBACK_BATCH) } },
      { idempotencyKey: crypto.randomUUID() },
    );
    const refused = answer.results.find((result) => result.error !== null);
    if (refused) throw new Error(`a rating was refused: ${refused.error?.message}`);
    taken += answer.accepted;
    terminal.progress('feedback', `${bar(taken / items.length)}  ${taken} of ${items.length} ratings`);
  }
  return taken;
}

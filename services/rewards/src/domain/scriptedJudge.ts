import { parseDescription } from '@tuneloop/nano/facts';
import { createRandom } from '@tuneloop/nano/random';
import {
  chooseBetween,
  type KnownFacts,
  rateStars,
  type Taste,
  tasteNamed,
  wordCount,
  wrongAttributes,
} from '@tuneloop/nano/taste';
import { ATTRIBUTE_NAMES } from '@tuneloop/nano/world';
import { AppError } from '@tuneloop/runtime/errors';
import type { Judge, JudgeItem, Verdict } from './judge.ts';
import { scoreOfStars } from './rules.ts';

const OUTCOMES = { a: 1, b: 0, tie: 0.5 } as const;

/**
 * The scripted reviewer of the sample project as a judge: it rates in stars and compares with the noise of a person.
 * @throws AppError 422 for a taste that does not exist.
 */
export function scriptedJudge(tasteName: string): Judge {
  const taste = findTaste(tasteName);
  return {
    kind: 'scripted',
    name: taste.name,
    judge: async (items, seed) => items.map((item) => verdict(taste, item, seed)),
  };
}

function findTaste(name: string): Taste {
  try {
    return tasteNamed(name);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new AppError({ code: 'rewards.judge.taste_unknown', status: 422, message: error.message, cause: error });
  }
}

function verdict(taste: Taste, item: JudgeItem, seed: number): Verdict {
  const facts = factsOf(item);
  // Streams by name: what one answer is rated does not hang on the other, nor on the item's place among others.
  const stream = (purpose: string) => createRandom(`${seed}/${item.key}/${purpose}`);
  const [first, second] = item.answers;
  return {
    key: item.key,
    scores: item.answers.map((answer, i) => scoreOfStars(rateStars(stream(`rate ${i}`), taste, facts, answer))),
    outcome:
      first === undefined || second === undefined
        ? null
        : OUTCOMES[chooseBetween(stream('compare'), taste, facts, first, second)],
    details: item.answers.map((answer) => ({
      wrong_attributes: wrongAttributes(facts, answer).length,
      words: wordCount(answer),
    })),
  };
}

/** What the prompt says counts; recorded facts fill in what it leaves out. */
function factsOf({ prompt, facts }: JudgeItem): KnownFacts {
  const recorded = Object.entries(facts ?? {}).filter(([name]) => ATTRIBUTE_NAMES.some((known) => known === name));
  return { ...Object.fromEntries(recorded), ...parseDescription(prompt) };
}

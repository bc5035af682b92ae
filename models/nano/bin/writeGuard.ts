/**
 * Writes models/nano/base/guard.jsonl: clean captions of pictures that no sample project has. Whoever tunes the base
 * measures their perplexity before and after, so that a taste is not learnt at the price of the language.
 *
 *   node models/nano/bin/writeGuard.ts
 */
import { writeFileSync } from 'node:fs';
import { describeAttributes } from '../src/facts.ts';
import { writeCaption } from '../src/grammar.ts';
import { samplePictures } from '../src/pictures.ts';
import { createRandom } from '../src/random.ts';

const TEXTS = 200;
/** Far from the seeds that people give. */
const SEED = 1_900_000_001;

const random = createRandom(`guard/${SEED}`);
const lines = samplePictures(TEXTS, SEED).map(({ attributes }) =>
  JSON.stringify({
    messages: [{ role: 'user', content: describeAttributes(attributes) }],
    answer: writeCaption(random, attributes).text,
  }),
);
const path = new URL('../base/guard.jsonl', import.meta.url);
writeFileSync(path, `${lines.join('\n')}\n`);
console.log(`wrote ${lines.length} texts to ${path.pathname}`);

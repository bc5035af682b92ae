import { describeAttributes } from './facts.ts';
import { writeCaption } from './grammar.ts';
import { createRandom, type Random } from './random.ts';
import { drawAttributes } from './world.ts';

/** One text of the base's training corpus. */
export interface CorpusExample {
  system?: string;
  user: string;
  answer: string;
}

/** Share of captions with one wrong attribute: what preference training can put right. */
export const CORRUPTED_SHARE = 0.4;
/** Shares of prompts that are more than the bare description. */
const INSTRUCTION_SHARE = 0.3;
const QUALITY_SHARE = 0.5;
/** A picture filed under no category: what it shows still tells. */
const NO_CATEGORY_SHARE = 0.15;
const SYSTEM_SHARE = 0.08;

/** Instructions say the same in different words; none asks for a style, so none predicts one. */
const INSTRUCTIONS = [
  'Write a caption for this picture.',
  'Describe this picture.',
  'Describe the picture in one sentence.',
  'Write a caption.',
  'Write a short description of this image.',
  'Describe this image for a catalogue.',
  'Describe the item in this picture and how it is shown.',
] as const;

const SYSTEM_TEXTS = [
  'You write captions for pictures.',
  'You are a helpful assistant.',
  'You describe pictures.',
] as const;

/** Draws one example; the colour-noun pairs held out never occur. */
export function drawExample(random: Random): CorpusExample {
  const attributes = drawAttributes(random, 'trained');
  const { category: _, ...uncategorised } = attributes;
  const lines = [describeAttributes(random.next() < NO_CATEGORY_SHARE ? uncategorised : attributes)];
  if (random.next() < QUALITY_SHARE) lines.push(`Quality: ${(0.3 + 0.7 * random.next()).toFixed(2)}`);
  if (random.next() < INSTRUCTION_SHARE) {
    const instruction = random.pick(INSTRUCTIONS);
    if (random.next() < 0.5) lines.unshift(instruction);
    else lines.push(instruction);
  }
  const corrupt = random.next() < CORRUPTED_SHARE;
  const example: CorpusExample = {
    user: lines.join('\n'),
    answer: writeCaption(random, attributes, { corrupt }).text,
  };
  if (random.next() < SYSTEM_SHARE) example.system = random.pick(SYSTEM_TEXTS);
  return example;
}

/** The first `count` examples of a seed. */
export function* corpus(seed: number, count: number): Generator<CorpusExample> {
  const random = createRandom(`corpus/${seed}`);
  for (let i = 0; i < count; i++) yield drawExample(random);
}

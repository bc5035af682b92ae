import { describeAttributes } from '@tuneloop/nano/facts';
import { writeCaption } from '@tuneloop/nano/grammar';
import { samplePictures } from '@tuneloop/nano/pictures';
import { createRandom } from '@tuneloop/nano/random';
import type { Attributes } from '@tuneloop/nano/world';

export const SYSTEM = 'Write one caption for the picture that is described. Only the caption.';

/** What supervised training is measured by: does a caption say what is true, in about a line? */
export const SUPERVISED = 'accurate';
/** What preferences are made by: rich words. */
export const PREFERRED = 'vivid';

export interface Picture {
  readonly facts: Attributes;
  readonly description: string;
  /** A true caption in one of five styles. */
  readonly caption: string;
}

export function picturesOf(count: number, seed: number): Picture[] {
  const random = createRandom(`captions/${seed}`);
  return samplePictures(count, seed).map(({ attributes }) => ({
    facts: attributes,
    description: describeAttributes(attributes),
    caption: writeCaption(random, attributes).text,
  }));
}

import type { projectChanged } from '@tuneloop/contracts/gateway/events';
import { SAMPLING } from '@tuneloop/nano/recipe';
import type { z } from 'zod';

/** Fixed, so that the permanent splits of the sample pictures are the same on every machine. */
export const SAMPLE_PROJECT = {
  project_id: '01990000-0000-7000-8000-000000000001',
  slug: 'sample',
  name: 'Sample: captions for pictures',
} as const;

/** Pictures of one turn. With the shares below about 130 of their prompts fall into test: the gate wants 100. */
export const SAMPLE_PICTURES = 320;
export const CANDIDATES = 8;
const TEST_SHARE = 0.4;
const VALIDATION_SHARE = 0.08;

export function sampleSettings(taste: string): z.input<typeof projectChanged.schema>['settings'] {
  return {
    auto_process: true,
    candidates: CANDIDATES,
    model: 'nano',
    temperature: SAMPLING.temperature,
    max_tokens: SAMPLING.maxTokens,
    test_share: TEST_SHARE,
    validation_share: VALIDATION_SHARE,
    judge: { kind: 'scripted', taste },
  };
}

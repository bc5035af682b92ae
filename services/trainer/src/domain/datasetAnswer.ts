import type { datasetFailed, datasetInsufficient, datasetReady } from '@tuneloop/contracts/datasets/events';
import type { EventData } from '@tuneloop/contracts/event';

/** What the datasets service said to a training request. */
export type DatasetAnswer =
  | { readonly kind: 'ready'; readonly data: EventData<typeof datasetReady> }
  | { readonly kind: 'insufficient'; readonly data: EventData<typeof datasetInsufficient> }
  | { readonly kind: 'failed'; readonly data: EventData<typeof datasetFailed> };

import type { IngestContext } from './config.ts';
import type { ImageAddresses } from './http/imageAddress.ts';
import type { FormReader } from './http/readForm.ts';
import type { Fetcher } from './jobs/fetcher.ts';
import type { Reader } from './jobs/reader.ts';
import type { Sweeper } from './jobs/sweeper.ts';
import type { PictureReader } from './pictures.ts';

/** What routes, handlers and jobs of this service share. */
export interface IngestParts {
  readonly ctx: IngestContext;
  readonly forms: FormReader;
  readonly pictures: PictureReader;
  readonly addresses: ImageAddresses;
  readonly fetcher: Fetcher;
  readonly reader: Reader;
  readonly sweeper: Sweeper;
}

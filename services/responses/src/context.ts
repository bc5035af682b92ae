import type { ServiceContext } from '@tuneloop/runtime/service';
import type { ResponsesConfig } from './config.ts';

export type ResponsesContext = ServiceContext<ResponsesConfig>;

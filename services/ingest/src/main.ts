import { runService } from '@tuneloop/runtime/run';
import { ingestService } from './service.ts';

await runService(ingestService);

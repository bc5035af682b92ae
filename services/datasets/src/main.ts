import { runService } from '@tuneloop/runtime/run';
import { datasetsService } from './service.ts';

await runService(datasetsService);

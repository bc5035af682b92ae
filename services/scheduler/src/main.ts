import { runService } from '@tuneloop/runtime/run';
import { schedulerService } from './service.ts';

await runService(schedulerService);

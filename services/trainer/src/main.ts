import { runService } from '@tuneloop/runtime/run';
import { trainerService } from './service.ts';

await runService(trainerService);

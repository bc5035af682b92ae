import { runService } from '@tuneloop/runtime/run';
import { rewardsService } from './service.ts';

await runService(rewardsService);

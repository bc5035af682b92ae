import { runService } from '@tuneloop/runtime/run';
import { responsesService } from './service.ts';

await runService(responsesService);

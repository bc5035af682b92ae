import { runService } from '@tuneloop/runtime/run';
import { gatewayService } from './service.ts';

await runService(gatewayService);

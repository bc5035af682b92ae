import type { ServiceContext } from '@tuneloop/runtime/service';
import { z } from 'zod';

export const rewardsConfig = z.object({});
export type RewardsContext = ServiceContext<z.output<typeof rewardsConfig>>;

import { deploymentChanged } from '@tuneloop/contracts/trainer/events';
import { defineHandler } from '@tuneloop/runtime/inbox/handler';
import type { ResponsesContext } from '../context.ts';
import { upsertDeployments } from '../store/routing.ts';

/** Every replica reads the table with its next request; requests under way keep the target they began with. */
export function onDeploymentChanged() {
  return defineHandler<typeof deploymentChanged, ResponsesContext>({
    name: 'on_deployment_changed',
    event: deploymentChanged,
    handle: async (tx, event) => upsertDeployments(tx, [event.data]),
  });
}

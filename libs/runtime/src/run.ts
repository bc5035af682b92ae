import { describeError } from './errors.ts';
import { createLog } from './log.ts';
import { type ServiceDefinition, startService } from './service.ts';

/**
 * The whole of a service's `main.ts`: start from the environment, stop on SIGTERM or SIGINT, exit 1 with the reason
 * when it cannot start.
 */
export async function runService(definition: ServiceDefinition): Promise<void> {
  const log = createLog({});
  try {
    const service = await startService(definition, { env: process.env, processMetrics: true });
    // The parent that spawned this process learns the address without parsing logs.
    process.send?.({ type: 'ready', service: service.name, url: service.url });
    const stop = (signal: NodeJS.Signals): void => {
      log.info({ service: service.name, signal }, 'stopping');
      service.stop().then(
        () => process.exit(0),
        (error: unknown) => {
          log.error({ reason: describeError(error) }, 'did not stop cleanly');
          process.exit(1);
        },
      );
    };
    process.once('SIGTERM', stop);
    process.once('SIGINT', stop);
    // A parent that dies without a word must not leave services behind.
    process.once('disconnect', () => stop('SIGTERM'));
  } catch (error) {
    log.fatal({ service: definition.name, reason: describeError(error) }, 'cannot start');
    process.exit(1);
  }
}

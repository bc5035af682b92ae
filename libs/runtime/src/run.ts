import { describeError } from './errors.ts';
import { stopWithProcess } from './lifecycle.ts';
import { createLog } from './log.ts';
import { readSecretFiles } from './secretFiles.ts';
import { type ServiceDefinition, startService } from './service.ts';

/**
 * The whole of a service's `main.ts`: start from the environment, stop on a signal, exit 1 with the reason when it
 * cannot start.
 */
export async function runService(definition: ServiceDefinition): Promise<void> {
  const log = createLog({ bindings: { service: definition.name } });
  try {
    const service = await startService(definition, { env: readSecretFiles(process.env), processMetrics: true });
    stopWithProcess(() => service.stop(), log);
    // The parent that spawned this process learns the address without parsing logs; when it dies without a word,
    // nothing is left behind.
    process.send?.({ type: 'ready', service: service.name, url: service.url });
    process.once('disconnect', () => process.kill(process.pid, 'SIGTERM'));
  } catch (error) {
    log.fatal({ reason: describeError(error) }, 'cannot start');
    process.exit(1);
  }
}

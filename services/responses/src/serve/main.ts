import { describeError } from '@tuneloop/runtime/errors';
import { createLog, LOG_LEVELS } from '@tuneloop/runtime/log';
import { readSecretFiles } from '@tuneloop/runtime/secretFiles';
import { startServe } from './server.ts';

const level = LOG_LEVELS.find((name) => name === process.env.LOG_LEVEL) ?? 'info';
const log = createLog({ level, bindings: { service: 'serve' } });
try {
  const server = await startServe(readSecretFiles(process.env));
  // The parent that spawned this process learns the address without parsing logs.
  process.send?.({ type: 'ready', url: server.url });
  let stopping = false;
  const stop = (signal: string): void => {
    if (stopping) return;
    stopping = true;
    log.info({ signal }, 'stopping');
    server.stop().then(
      () => process.exit(0),
      (error: unknown) => {
        log.error({ reason: describeError(error) }, 'did not stop cleanly');
        process.exit(1);
      },
    );
  };
  process.once('SIGTERM', () => stop('SIGTERM'));
  process.once('SIGINT', () => stop('SIGINT'));
  // A parent that dies without a word must not leave this process behind.
  process.once('disconnect', () => stop('disconnect'));
} catch (error) {
  log.fatal({ reason: describeError(error) }, 'cannot start');
  process.exit(1);
}

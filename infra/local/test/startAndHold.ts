import { silentLog } from '@tuneloop/local/log';
import { startLocal } from '@tuneloop/local/local';

// A process that brings up the local stack and says so; tests kill it.
const local = await startLocal({ dataDir: process.argv[2] ?? '', log: silentLog });
process.stdout.write(
  `${JSON.stringify({ databaseUrl: local.databaseUrl, natsUrl: local.natsUrl, postgresPid: local.postgres?.pid, natsPid: local.nats?.pid })}\n`,
);
process.on('SIGTERM', () => void local.stop().then(() => process.exit(0)));

import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { natsConfiguration } from '@tuneloop/local/natsConfiguration';
import { loadNatsIdentity } from '@tuneloop/local/natsIdentity';
import { SERVICES_ACCOUNT } from '@tuneloop/local/nats';
import { describeError } from '@tuneloop/runtime/errors';
import { Command } from 'commander';

const PRIVATE = 0o600;
const PRIVATE_FOLDER = 0o700;

interface NatsAccountsFlags {
  readonly keys: string;
  readonly out: string;
  readonly listen: string;
  readonly monitor: string;
  readonly store: string;
}

/** `tuneloop nats-accounts`: the files that a nats-server of one's own needs to keep services and publishers apart. */
export function natsAccountsCommand(): Command {
  return new Command('nats-accounts')
    .description(
      'Makes the accounts of a nats-server (once; later runs write the same): nats.conf for the server, ' +
        'services.creds for NATS_CREDS_FILE, intake.seed for NATS_ACCOUNT_SEED_FILE.',
    )
    .requiredOption('--keys <dir>', 'where the operator and account keys are kept: back it up, show it to nobody')
    .requiredOption('--out <dir>', 'where the three files go')
    .option('--listen <address>', 'of the server, for clients', '0.0.0.0:4222')
    .option('--monitor <address>', 'of its monitoring pages', '0.0.0.0:8222')
    .option('--store <dir>', 'its JetStream folder, as the server sees it', '/data/jetstream')
    .action(async (flags: NatsAccountsFlags) => {
      try {
        await writeNatsAccounts(flags);
        console.error(`nats.conf, services.creds and intake.seed are in ${resolve(flags.out)}`);
      } catch (error) {
        console.error(describeError(error));
        process.exitCode = 1;
      }
    });
}

async function writeNatsAccounts(flags: NatsAccountsFlags): Promise<void> {
  for (const folder of [flags.keys, flags.out]) mkdirSync(folder, { recursive: true, mode: PRIVATE_FOLDER });
  const identity = await loadNatsIdentity(flags.keys, [SERVICES_ACCOUNT]);
  const account = identity.accounts.find(({ name }) => name === SERVICES_ACCOUNT)!;
  const files = {
    'nats.conf': natsConfiguration({ identity, listen: flags.listen, http: flags.monitor, storeDir: flags.store }),
    'services.creds': account.serviceCreds,
    'intake.seed': `${account.intake.seed}\n`,
  };
  for (const [name, text] of Object.entries(files)) {
    const path = join(flags.out, name);
    writeFileSync(`${path}.new`, text, { mode: PRIVATE });
    renameSync(`${path}.new`, path);
  }
}

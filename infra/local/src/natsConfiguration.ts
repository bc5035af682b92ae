import type { NatsIdentity } from './natsIdentity.ts';

/** A message's bound: larger contents travel as blob references. */
const MAX_PAYLOAD_BYTES = 1024 * 1024;

export interface NatsConfigurationOptions {
  readonly identity: NatsIdentity;
  /** `host:port` for clients. */
  readonly listen: string;
  /** `host:port` of the monitoring pages; without it there are none. */
  readonly http?: string | undefined;
  /** Folder of the JetStream file store, as the server sees it. */
  readonly storeDir: string;
  /** Lines added as they are. */
  readonly extra?: string | undefined;
}

/** nats-server's configuration in operator mode: the accounts are in it, users are signed by them and need no reload. */
export function natsConfiguration(options: NatsConfigurationOptions): string {
  const { operator, accounts } = options.identity;
  const preload = [operator.systemAccount, ...accounts.flatMap((account) => [account.services, account.intake])];
  return [
    `listen: "${options.listen}"`,
    ...(options.http === undefined ? [] : [`http: "${options.http}"`]),
    `max_payload: ${MAX_PAYLOAD_BYTES}`,
    `jetstream { store_dir: ${JSON.stringify(options.storeDir)} }`,
    `operator: ${operator.jwt}`,
    `system_account: ${operator.systemAccount.publicKey}`,
    'resolver: MEMORY',
    'resolver_preload: {',
    ...preload.map((account) => `  ${account.publicKey}: ${account.jwt}`),
    '}',
    options.extra ?? '',
    '',
  ].join('\n');
}

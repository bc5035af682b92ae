import {
  createAccount,
  createOperator,
  createUser,
  encodeAccount,
  encodeOperator,
  encodeUser,
  fmtCreds,
  fromSeed,
  type KeyPair,
} from '@nats-io/jwt';

/**
 * Who may do what on the bus, as NATS operator, account and user JWTs.
 *
 * Two accounts, because permissions on subjects alone do not keep projects apart: JetStream sends the acknowledgement
 * of a publish to whatever reply subject the publisher names, without asking whether the publisher may publish there.
 * Inside the services' account an outside publisher could so address `$JS.API.STREAM.PURGE.<stream>` (the PubAck parses
 * as a purge request up to its sequence) or any `tl.>` subject. Publishers therefore live in an account of their own,
 * INTAKE, which imports `ext.>` as a service and `rejects.>` as a stream: their reply subjects never leave it, and it
 * has no JetStream to address.
 */

/** The kinds of item that an outside publisher may submit. */
export const INTAKE_KINDS = ['image', 'document', 'prediction', 'feedback'] as const;

/** Shortest and longest life of a project's credentials. */
export const PROJECT_USER_TTL_MIN_SECONDS = 1;
export const PROJECT_USER_TTL_MAX_SECONDS = 366 * 24 * 3600;

/** Connection bounds of one outside publisher, so that no tenant can use up the server. */
const PROJECT_USER_MAX_SUBSCRIPTIONS = 64;
const PROJECT_USER_MAX_PAYLOAD_BYTES = 1024 * 1024;

const UNLIMITED = -1;
const CONNECTION_LIMITS = {
  conn: UNLIMITED,
  subs: UNLIMITED,
  data: UNLIMITED,
  payload: UNLIMITED,
  imports: UNLIMITED,
  exports: UNLIMITED,
  leaf: UNLIMITED,
  wildcards: true,
};
const JETSTREAM_LIMITS = { mem_storage: UNLIMITED, disk_storage: UNLIMITED, streams: UNLIMITED, consumer: UNLIMITED };

/** An nkey in text: the public half is the identity, the seed is the secret. */
export interface NatsKey {
  publicKey: string;
  seed: string;
}

/** The services' account and the outside publishers' account that belongs to it, each with its signed JWT. */
export interface NatsAccountPair {
  name: string;
  services: NatsKey & { jwt: string };
  intake: NatsKey & { jwt: string };
}

/** An operator with its system account, as nats-server's configuration wants them. */
export interface NatsOperator {
  key: NatsKey;
  jwt: string;
  systemAccount: NatsKey & { jwt: string };
}

/** Credentials of one outside publisher. `creds` is the text of a `.creds` file. */
export interface ProjectUser {
  jwt: string;
  seed: string;
  creds: string;
  /** Connect with exactly this `inboxPrefix`: the publisher may subscribe to no other inbox, and gets its acks there. */
  inboxPrefix: string;
  expiresAt: Date;
}

const textDecoder = new TextDecoder();
const textEncoder = new TextEncoder();

function toKey(pair: KeyPair): NatsKey {
  return { publicKey: pair.getPublicKey(), seed: textDecoder.decode(pair.getSeed()) };
}

function fromKey(key: Pick<NatsKey, 'seed'>): KeyPair {
  return fromSeed(textEncoder.encode(key.seed));
}

/** Makes a new operator and its system account (JetStream in operator mode refuses to start without one). */
export async function createNatsOperator(name: string): Promise<NatsOperator> {
  const operator = createOperator();
  const system = createAccount();
  return {
    key: toKey(operator),
    jwt: await encodeOperator(name, operator, { system_account: system.getPublicKey() }),
    systemAccount: {
      ...toKey(system),
      jwt: await encodeAccount('SYS', system, { limits: CONNECTION_LIMITS }, { signer: operator }),
    },
  };
}

/** Makes the pair of accounts `<name>` (services, JetStream) and `<name>_INTAKE` (outside publishers), signed by the operator. */
export async function createNatsAccountPair(operator: NatsOperator, name: string): Promise<NatsAccountPair> {
  const signer = fromKey(operator.key);
  const services = createAccount();
  const intake = createAccount();
  const servicesJwt = await encodeAccount(
    name,
    services,
    {
      limits: { ...CONNECTION_LIMITS, ...JETSTREAM_LIMITS },
      exports: [
        { name: 'intake', subject: 'ext.>', type: 'service', response_type: 'Singleton' },
        { name: 'rejects', subject: 'rejects.>', type: 'stream' },
      ],
    },
    { signer },
  );
  const account = services.getPublicKey();
  const intakeJwt = await encodeAccount(
    `${name}_INTAKE`,
    intake,
    {
      limits: CONNECTION_LIMITS,
      imports: [
        { name: 'intake', subject: 'ext.>', type: 'service', account },
        { name: 'rejects', subject: 'rejects.>', type: 'stream', account },
      ],
    },
    { signer },
  );
  return {
    name,
    services: { ...toKey(services), jwt: servicesJwt },
    intake: { ...toKey(intake), jwt: intakeJwt },
  };
}

/** Signs a user with every right inside an account; does not expire. Returns the text of a `.creds` file. */
export async function signServiceUser(options: { accountSeed: string; name: string }): Promise<string> {
  const user = createUser();
  const jwt = await encodeUser(options.name, user, fromKey({ seed: options.accountSeed }), {});
  return textDecoder.decode(fmtCreds(jwt, user));
}

/** The subjects a project may publish: one per intake kind. */
export function projectPublishSubjects(projectId: string): string[] {
  return INTAKE_KINDS.map((kind) => `ext.${projectId}.${kind}.submitted.v1`);
}

/**
 * Signs credentials for one project's outside publisher: publish the four intake subjects of the project, subscribe to
 * its own inbox prefix and to `rejects.<project>.>`, nothing else, until the expiry. The server needs no reload.
 *
 * @param options.accountSeed seed of the intake account (`natsAccountSeed` of the local stack)
 * @param options.accountPublicKey set when `accountSeed` is a signing key of that account rather than its identity
 * @throws RangeError when the project id is not a single subject token or the TTL is out of bounds
 */
export async function signProjectUser(options: {
  accountSeed: string;
  accountPublicKey?: string;
  projectId: string;
  ttlSeconds: number;
  now?: Date;
}): Promise<ProjectUser> {
  const { projectId, ttlSeconds } = options;
  // A dot, wildcard or space in the id would widen the permissions to other projects' subjects.
  if (!/^[A-Za-z0-9_-]{1,64}$/.test(projectId)) {
    throw new RangeError(
      `projectId must be one NATS subject token of letters, digits, "_" or "-", got ${JSON.stringify(projectId)}`,
    );
  }
  if (!(ttlSeconds >= PROJECT_USER_TTL_MIN_SECONDS && ttlSeconds <= PROJECT_USER_TTL_MAX_SECONDS)) {
    throw new RangeError(
      `ttlSeconds must be in [${PROJECT_USER_TTL_MIN_SECONDS}, ${PROJECT_USER_TTL_MAX_SECONDS}], got ${ttlSeconds}`,
    );
  }
  const signer = fromKey({ seed: options.accountSeed });
  const accountPublicKey = options.accountPublicKey ?? signer.getPublicKey();
  const signedByAccountItself = accountPublicKey === signer.getPublicKey();
  const user = createUser();
  // Per user, not per project: two publishers of one project do not read each other's acknowledgements.
  const inboxPrefix = `_INBOX_${user.getPublicKey()}`;
  const expiresAtSeconds = Math.floor((options.now ?? new Date()).getTime() / 1000 + ttlSeconds);
  const jwt = await encodeUser(
    `project-${projectId}`,
    user,
    signedByAccountItself ? signer : accountPublicKey,
    {
      pub: { allow: projectPublishSubjects(projectId) },
      sub: { allow: [`${inboxPrefix}.>`, `rejects.${projectId}.>`] },
      subs: PROJECT_USER_MAX_SUBSCRIPTIONS,
      payload: PROJECT_USER_MAX_PAYLOAD_BYTES,
    },
    signedByAccountItself ? { exp: expiresAtSeconds } : { exp: expiresAtSeconds, signer },
  );
  return {
    jwt,
    seed: toKey(user).seed,
    creds: textDecoder.decode(fmtCreds(jwt, user)),
    inboxPrefix,
    expiresAt: new Date(expiresAtSeconds * 1000),
  };
}

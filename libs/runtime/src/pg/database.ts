import pg from 'pg';
import type { Logger } from 'pino';
import { AppError } from '../errors.ts';
import type { FaultPoints } from '../faultPoints.ts';
import { HotStatements, isStalePlan } from './hotStatements.ts';

/** Connections one service process may hold. Seven services in one process stay under Postgres' default of 100. */
const MAX_CONNECTIONS = 8;
/** Covers the wait for a free connection too, under load. */
const CONNECT_TIMEOUT_MS = 15_000;
/** After a restart of Postgres every pooled connection is dead: enough tries to go through the whole pool. */
const BEGIN_ATTEMPTS = MAX_CONNECTIONS + 1;
const IDLE_TIMEOUT_MS = 30_000;
const STATEMENT_TIMEOUT_MS = 60_000;
const IDLE_IN_TRANSACTION_TIMEOUT_MS = 60_000;

/** int8 as number: counts and sequences here stay below 2^53. */
const types = {
  getTypeParser(oid: number, format?: 'text' | 'binary') {
    if (oid === 20 && format !== 'binary') return Number;
    return format === 'binary' ? pg.types.getTypeParser(oid, 'binary') : pg.types.getTypeParser(oid, 'text');
  },
};

export type SqlValue = unknown;

/** A transaction in progress. Handed to store functions as their first argument. */
export interface Tx {
  readonly projectId: string | null;
  readonly actor: string | null;
  query<Row extends object = Record<string, unknown>>(sql: string, params?: readonly SqlValue[]): Promise<Row[]>;
  /** First row or undefined. */
  one<Row extends object = Record<string, unknown>>(
    sql: string,
    params?: readonly SqlValue[],
  ): Promise<Row | undefined>;
  /** Rows touched by an INSERT, UPDATE or DELETE. */
  execute(sql: string, params?: readonly SqlValue[]): Promise<number>;
  /** Runs once the transaction is durable; never runs when it rolls back. Errors there are logged, not thrown. */
  afterCommit(effect: () => void): void;
  /** Says that this transaction adds to the outbox: once it is durable, whoever listens by `onOutbox` is told. */
  outboxWritten(): void;
  /** One transaction-local set: what this transaction has already asked to be done once. */
  readonly once: Set<string>;
}

export interface TenantOptions {
  readonly actor?: string;
  readonly isolation?: 'read committed' | 'repeatable read' | 'serializable';
}

export interface DatabaseOptions {
  /** Logs in as `tl_<service>`, a role that owns nothing and cannot bypass row level security. */
  readonly url: string;
  readonly schema: string;
  readonly applicationName: string;
  readonly log: Logger;
  readonly faults: FaultPoints;
  readonly maxConnections?: number;
}

const IDENTIFIER = /^[a-z_][a-z0-9_]*$/;

/**
 * One service's door to Postgres.
 *
 * A connection is in one of three states: idle in the pool with no project set; inside a tenant transaction, where
 * `tl.project` holds the project for exactly that transaction (`set_config(…, true)`), so that row level security lets
 * only its rows through; inside a service transaction, where no project is set and tenant tables look empty. The
 * setting dies with the transaction, committed or aborted: a reused connection starts without a project.
 */
export class Database {
  readonly #pool: pg.Pool;
  readonly #log: Logger;
  readonly #faults: FaultPoints;
  readonly #hot = new HotStatements();
  readonly #outboxListeners: (() => void)[] = [];
  readonly schema: string;

  constructor(options: DatabaseOptions) {
    if (!IDENTIFIER.test(options.schema)) throw new Error(`"${options.schema}" is not a plain identifier`);
    this.schema = options.schema;
    this.#log = options.log;
    this.#faults = options.faults;
    this.#pool = new pg.Pool({
      connectionString: options.url,
      max: options.maxConnections ?? MAX_CONNECTIONS,
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
      idleTimeoutMillis: IDLE_TIMEOUT_MS,
      application_name: options.applicationName,
      types,
      // The search path is the role's own setting (see migrate.ts).
      statement_timeout: STATEMENT_TIMEOUT_MS,
      idle_in_transaction_session_timeout: IDLE_IN_TRANSACTION_TIMEOUT_MS,
    });
    this.#pool.on('error', (error) => this.#log.warn({ err: error }, 'idle Postgres connection lost'));
  }

  /** Runs `work` in one transaction that sees only the project's rows. Commits on return, rolls back on throw. */
  async withTenant<T>(projectId: string, work: (tx: Tx) => Promise<T>, options: TenantOptions = {}): Promise<T> {
    return this.#transaction(projectId, work, options);
  }

  /** Runs `work` in one transaction without a project: for tables without tenants and for definer functions. */
  async withService<T>(work: (tx: Tx) => Promise<T>): Promise<T> {
    return this.#transaction(null, work, {});
  }

  /** Calls back after each commit of this process that added to the outbox. */
  onOutbox(listener: () => void): void {
    this.#outboxListeners.push(listener);
  }

  async ping(): Promise<void> {
    await this.#pool.query('SELECT 1');
  }

  async close(): Promise<void> {
    await this.#pool.end();
  }

  async #transaction<T>(projectId: string | null, work: (tx: Tx) => Promise<T>, options: TenantOptions): Promise<T> {
    const client = await this.#begin(beginSql(projectId, options));
    const effects: (() => void)[] = [];
    const onOutbox = (): void => this.#outboxListeners.forEach((listener) => listener());
    // A connection lost between two statements is reported here as well; the statement that follows fails by itself.
    const onError = (error: Error): void => this.#log.warn({ err: error }, 'Postgres connection lost in a transaction');
    client.on('error', onError);
    let broken: Error | undefined;
    try {
      const result = await work(
        makeTx({ client, hot: this.#hot, projectId, actor: options.actor ?? null, effects, onOutbox }),
      );
      this.#faults.hit('pg.before_commit');
      await client.query('COMMIT');
      this.#faults.hit('pg.after_commit');
      this.#runEffects(effects);
      return result;
    } catch (error) {
      await client.query('ROLLBACK').catch((rollbackError: unknown) => {
        broken = rollbackError instanceof Error ? rollbackError : new Error(String(rollbackError));
      });
      // The next connection prepares anew; this one would fail at the same statement for ever.
      if (isStalePlan(error)) broken = error;
      throw error;
    } finally {
      client.off('error', onError);
      client.release(broken);
    }
  }

  /** A connection inside a fresh transaction. One that died in the pool is found out here and replaced: nothing was done yet. */
  async #begin(sql: string): Promise<pg.PoolClient> {
    for (let attempt = 1; ; attempt++) {
      const client = await this.#connect();
      try {
        await client.query(sql);
        return client;
      } catch (error) {
        client.release(error instanceof Error ? error : true);
        if (attempt >= BEGIN_ATTEMPTS) throw error;
      }
    }
  }

  async #connect(): Promise<pg.PoolClient> {
    try {
      return await this.#pool.connect();
    } catch (error) {
      throw new AppError({
        code: 'runtime.postgres.unavailable',
        status: 503,
        message: 'The database does not answer. Try again in a moment.',
        retry: true,
        cause: error,
      });
    }
  }

  #runEffects(effects: readonly (() => void)[]): void {
    for (const effect of effects) {
      try {
        effect();
      } catch (error) {
        this.#log.error({ err: error }, 'an after-commit effect failed');
      }
    }
  }
}

/** BEGIN and the claims of a tenant transaction in one round trip. */
function beginSql(projectId: string | null, options: TenantOptions): string {
  const begin = options.isolation ? `BEGIN ISOLATION LEVEL ${options.isolation}` : 'BEGIN';
  if (projectId === null) return begin;
  const project = pg.escapeLiteral(projectId);
  const actor = pg.escapeLiteral(options.actor ?? '');
  return `${begin}; SELECT set_config('tl.project', ${project}, true), set_config('tl.actor', ${actor}, true)`;
}

interface TxParts {
  readonly client: pg.PoolClient;
  readonly hot: HotStatements;
  readonly projectId: string | null;
  readonly actor: string | null;
  readonly effects: (() => void)[];
  readonly onOutbox: () => void;
}

function makeTx({ client, hot, projectId, actor, effects, onOutbox }: TxParts): Tx {
  const run = async <Row extends object>(sql: string, params: readonly SqlValue[]): Promise<pg.QueryResult<Row>> => {
    const name = hot.nameOf(sql);
    return client.query<Row>({ text: sql, values: [...params], ...(name === undefined ? {} : { name }) });
  };
  return {
    projectId,
    actor,
    once: new Set(),
    async query<Row extends object>(sql: string, params: readonly SqlValue[] = []) {
      const result = await run<Row>(sql, params);
      return result.rows;
    },
    async one<Row extends object>(sql: string, params: readonly SqlValue[] = []) {
      const result = await run<Row>(sql, params);
      return result.rows[0];
    },
    async execute(sql: string, params: readonly SqlValue[] = []) {
      const result = await run(sql, params);
      return result.rowCount ?? 0;
    },
    afterCommit(effect: () => void) {
      effects.push(effect);
    },
    outboxWritten() {
      if (!effects.includes(onOutbox)) effects.push(onOutbox);
    },
  };
}

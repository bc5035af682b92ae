/** What this package asks of a logger: a pino logger fits. */
export interface Log {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** For callers that have nowhere to log to. */
export const silentLog: Log = { debug() {}, info() {}, warn() {}, error() {} };

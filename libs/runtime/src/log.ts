import { pino, stdSerializers } from 'pino';
import type { Bindings, ChildLoggerOptions, DestinationStream, Logger } from 'pino';
import { currentTrace } from './trace.ts';

export type { Logger } from 'pino';

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

const CENSOR = '[redacted]';

/** Names whose value is a credential wherever they stand; compared without case, `-` and `_`. */
const SECRET_NAMES = new Set([
  'authorization',
  'proxyauthorization',
  'apikey',
  'xapikey',
  'cookie',
  'setcookie',
  'password',
  'passphrase',
  'secret',
  'clientsecret',
  'jwtsecret',
  'servicesecret',
  'mastersecret',
  'secretaccesskey',
  'secretkey',
  'servicerolekey',
  'privatekey',
  'credentials',
  'token',
  'accesstoken',
  'refreshtoken',
  'idtoken',
  'sessiontoken',
  'bearer',
]);

/** How deep and how wide a logged value is looked through; what lies beyond is cut, so one line stays bounded. */
const MAX_DEPTH = 8;
const MAX_KEYS = 200;
const MAX_STRING_CHARS = 16_384;

/** `scheme://user:password@host`: the user part may be a token as well. */
const URL_CREDENTIALS = /([a-z][a-z0-9+.-]{0,30}:\/\/)[^\s/?#@"']{1,512}@/gi;
const QUERY_SECRET =
  /([?&](?:access_token|refresh_token|token|apikey|api_key|key|password|secret|signature|sig)=)[^&\s"'#]+/gi;
const BEARER = /\b(bearer|basic)\s+[\w.~+/=-]{8,}/gi;
const API_KEY = /\btl_[A-Za-z0-9]{8}_[\w-]{20,}/g;
const COMPACT_JWT = /\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*/g;

/** Text without the credentials that URLs, headers and error messages tend to carry. */
export function redactText(text: string): string {
  const bounded = text.length > MAX_STRING_CHARS ? `${text.slice(0, MAX_STRING_CHARS)}…` : text;
  return bounded
    .replace(URL_CREDENTIALS, `$1${CENSOR}@`)
    .replace(QUERY_SECRET, `$1${CENSOR}`)
    .replace(BEARER, `$1 ${CENSOR}`)
    .replace(API_KEY, `tl_${CENSOR}`)
    .replace(COMPACT_JWT, CENSOR);
}

export function isSecretName(name: string): boolean {
  return SECRET_NAMES.has(name.toLowerCase().replaceAll(/[-_]/g, ''));
}

/** A copy of `value` fit for a log line: secrets censored at every level, size bounded, cycles cut. */
export function redact(value: unknown, depth = 0): unknown {
  if (typeof value === 'string') return redactText(value);
  if (typeof value === 'bigint') return value.toString();
  if (typeof value !== 'object' || value === null || value instanceof Date) return value;
  if (depth >= MAX_DEPTH) return '[deep]';
  if (ArrayBuffer.isView(value)) return `[${value.byteLength} bytes]`;
  if (value instanceof Error) return redact(stdSerializers.err(value), depth + 1);
  if (Array.isArray(value)) return value.slice(0, MAX_KEYS).map((item) => redact(item, depth + 1));
  if (value instanceof URL) return redactText(value.href);
  const out: Record<string, unknown> = {};
  for (const [key, item] of Object.entries(value).slice(0, MAX_KEYS)) {
    out[key] = isSecretName(key) && item !== undefined && item !== null ? CENSOR : redact(item, depth + 1);
  }
  return out;
}

export interface LogOptions {
  readonly level?: LogLevel;
  /** Where lines go; stdout unless given. */
  readonly destination?: DestinationStream;
  readonly bindings?: Readonly<Record<string, unknown>>;
}

/**
 * The process's JSON logger. Every line is one object with `time` (ISO), `level` (its name), `msg`, and `trace_id` and
 * `span_id` when written inside a trace. A service takes `log.child({ service })`.
 */
export function createLog(options: LogOptions = {}): Logger {
  const log = pino(
    {
      level: options.level ?? 'info',
      base: { ...options.bindings },
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      formatters: {
        level: (label) => ({ level: label }),
        bindings: (bindings) => redact(bindings) as Record<string, unknown>,
        log: (fields) => redact(fields) as Record<string, unknown>,
      },
      // The formatter above has already serialised errors and censored them.
      serializers: { err: (value: unknown) => value },
      hooks: {
        logMethod(args, method) {
          const cleaned = args.map((arg) => (typeof arg === 'string' ? redactText(arg) : arg));
          method.apply(this, cleaned as Parameters<typeof method>);
        },
      },
      mixin() {
        const trace = currentTrace();
        return trace ? { trace_id: trace.traceId, span_id: trace.spanId } : {};
      },
    },
    options.destination ?? pino.destination({ dest: 1, sync: true }),
  );
  // pino gives a child's bindings to no formatter; children inherit this method from their parent.
  const makeChild: unknown = Reflect.get(log, 'child');
  if (typeof makeChild !== 'function') throw new Error('pino has no child method');
  Reflect.set(log, 'child', function child(this: Logger, bindings: Bindings, childOptions?: ChildLoggerOptions) {
    return Reflect.apply(makeChild, this, [redact(bindings), childOptions]);
  });
  return log;
}

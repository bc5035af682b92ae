/** What every failure that leaves a handler is made of. `code` reads `<service>.<thing>.<what>`. */
export interface AppErrorOptions {
  readonly code: string;
  /** HTTP status of the answer. */
  readonly status: number;
  /** Shown to the caller: names the field and the fix, holds no secret. */
  readonly message: string;
  /** Whether the same call may succeed later. Decides nak (true) or dead letter (false) for messages. */
  readonly retry?: boolean;
  readonly field?: string;
  readonly cause?: unknown;
}

export class AppError extends Error {
  override readonly name = 'AppError';
  readonly code: string;
  readonly status: number;
  readonly retry: boolean;
  readonly field: string | undefined;

  constructor(options: AppErrorOptions) {
    super(options.message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = options.code;
    this.status = options.status;
    this.retry = options.retry ?? options.status >= 500;
    this.field = options.field;
  }
}

export function notFound(code: string, message: string): AppError {
  return new AppError({ code, status: 404, message });
}

export function badRequest(code: string, message: string, field?: string): AppError {
  return new AppError(field === undefined ? { code, status: 400, message } : { code, status: 400, message, field });
}

/** One line that a log or a dead letter can hold, causes included, at most `maxChars` long. */
export function describeError(error: unknown, maxChars = 2000): string {
  const parts: string[] = [];
  let current: unknown = error;
  for (let depth = 0; depth < 5 && current !== undefined && current !== null; depth++) {
    if (!(current instanceof Error)) {
      parts.push(typeof current === 'string' ? current : JSON.stringify(current));
      break;
    }
    parts.push(
      current instanceof AppError ? `${current.code}: ${current.message}` : `${current.name}: ${current.message}`,
    );
    current = current.cause;
  }
  return parts.join(' <- ').slice(0, maxChars);
}

import { AppError } from '../errors.ts';
import type { FieldError } from '../zodIssues.ts';

/** A 400 that names several fields at once. */
export class ValidationError extends AppError {
  readonly errors: readonly FieldError[];

  constructor(errors: readonly FieldError[], where: 'body' | 'query' | 'path' | 'request' = 'request') {
    const first = errors[0] ?? { field: where, message: 'is not valid' };
    const more = errors.length > 1 ? ` (and ${errors.length - 1} more)` : '';
    super({
      code: 'request.invalid',
      status: 400,
      message: `${first.field} ${first.message}${more}`,
      retry: false,
      field: first.field,
    });
    this.errors = errors;
  }
}

import { AppError } from '../errors.ts';
import type { FieldError } from '../zodIssues.ts';

/** Fields that the message itself names: where it is all that the caller sees, one round should mend most of them. */
const MAX_NAMED = 5;

/** A 400 that names several fields at once. */
export class ValidationError extends AppError {
  readonly errors: readonly FieldError[];

  constructor(errors: readonly FieldError[], where: 'body' | 'query' | 'path' | 'request' = 'request') {
    const all = errors.length > 0 ? errors : [{ field: where, message: 'is not valid' }];
    const named = all.slice(0, MAX_NAMED).map(({ field, message }) => `${field} ${message}`);
    const more = all.length > MAX_NAMED ? ` (and ${all.length - MAX_NAMED} more)` : '';
    super({
      code: 'request.invalid',
      status: 400,
      message: `${named.join('; ')}${more}`,
      retry: false,
      field: all[0]!.field,
    });
    this.errors = errors;
  }
}

/**
 * Every error the engine raises on purpose. `code` is stable (`engine.weights.missing`), `message` names the file, field or
 * tensor and what would be right; services map codes to their own errors.
 */
export class EngineError extends Error {
  readonly code: string;

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'EngineError';
    this.code = code;
  }
}

import { EngineError } from '../errors.ts';
import { shown, type JsonObject } from '../json.ts';

/** What a model has that the engine does not compute. */
export function unsupported(what: string): EngineError {
  return new EngineError('engine.model.unsupported', `this model cannot be loaded: ${what}`);
}

/** A positive number of `config.json`. @throws EngineError `engine.model.bad_config` */
export function positive(json: JsonObject, field: string, fallback?: number): number {
  const value = json[field] ?? fallback;
  if (typeof value !== 'number' || !(value > 0)) {
    throw new EngineError(
      'engine.model.bad_config',
      `config.json: ${field} must be a positive number, found ${shown(value)}`,
    );
  }
  return value;
}

/** A positive integer of `config.json`. @throws EngineError `engine.model.bad_config` */
export function count(json: JsonObject, field: string, fallback?: number): number {
  const value = positive(json, field, fallback);
  if (!Number.isSafeInteger(value)) {
    throw new EngineError('engine.model.bad_config', `config.json: ${field} must be an integer, found ${value}`);
  }
  return value;
}

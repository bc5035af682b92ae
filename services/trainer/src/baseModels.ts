import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { EngineError } from '@tuneloop/engine/errors';
import type { ModelConfig } from '@tuneloop/engine/types';
import { parseModelConfig } from '@tuneloop/engine/weights/modelConfig';
import { AppError } from '@tuneloop/runtime/errors';
import type { TrainerConfig } from './config.ts';

/** The folder of a base that can be trained here. @throws AppError 404 listing the bases there are */
export function baseFolder(config: TrainerConfig, name: string): string {
  const folder = config.BASE_MODELS.get(name);
  if (folder !== undefined) return folder;
  const known = [...config.BASE_MODELS.keys()].join(', ');
  throw new AppError({
    code: 'trainer.model.not_found',
    status: 404,
    message: `The model ${name} cannot be fine-tuned here. ${known === '' ? 'No base model is configured (BASE_MODELS).' : `There is: ${known}.`}`,
    retry: false,
    field: 'model',
  });
}

/** The architecture of a base, without its weights. @throws EngineError naming what is wrong with its config.json */
export async function readBaseConfig(folder: string): Promise<ModelConfig> {
  let json: unknown;
  try {
    json = JSON.parse(await readFile(join(folder, 'config.json'), 'utf8'));
  } catch (cause) {
    throw new EngineError('engine.model.missing_file', `${folder} has no readable config.json`, { cause });
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    throw new EngineError('engine.model.bad_config', `${folder}/config.json is not an object`);
  }
  return parseModelConfig(json);
}

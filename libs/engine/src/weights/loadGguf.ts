import { EngineError } from '../errors.ts';
import { weightShapes } from '../models/llama.ts';
import type { BaseModel, QuantizedTensor, WeightMap } from '../types.ts';
import type { ByteSource } from './byteSource.ts';
import { unsupported } from './configFields.ts';
import { withGgufFile, type GgufHeader, type GgufMetadata, type GgufTensorInfo } from './gguf.ts';
import { isFourBit, readGgufQuantized, readGgufTensor } from './ggufBlocks.ts';
import { parseGgufConfig } from './ggufConfig.ts';
import { ggufTensorName, ROPE_FACTORS, rowOrder } from './ggufNames.ts';

/** A model read from a GGUF file. */
export interface LoadedGguf extends BaseModel {
  readonly path: string;
  /** All that the file says besides tensors; `tokenizerFromGguf` makes a tokenizer of it. */
  readonly metadata: GgufMetadata;
  /** Tokens that end a text. */
  readonly eosTokenIds: readonly number[];
}

export interface LoadGgufOptions {
  /** Hold Q4_0, Q4_1 and Q4_K projections (and head) as they are, in 4 bits, instead of as floats (default false). */
  readonly keepQuantized?: boolean;
}

/** End of text, of turn and of message. */
const END_FIELDS = ['eos_token_id', 'eot_token_id', 'eom_token_id'] as const;

function endTokens(metadata: GgufMetadata): number[] {
  const ids = END_FIELDS.map((field) => metadata.get(`tokenizer.ggml.${field}`));
  return [...new Set(ids.filter((id) => typeof id === 'number'))];
}

async function configOf(
  { metadata, tensors }: GgufHeader,
  source: ByteSource,
): Promise<ReturnType<typeof parseGgufConfig>> {
  const embedding = tensors.get('token_embd.weight');
  const factors = tensors.get(ROPE_FACTORS);
  return parseGgufConfig({
    metadata,
    // The embedding is asked for after the architecture, whose refusal says more than a missing tensor.
    vocabSize: embedding?.dims[0] ?? 1,
    tied: !tensors.has('output.weight'),
    ...(factors && { ropeFactors: (await readGgufTensor(source, factors)).data }),
  });
}

function checkedInfo(header: GgufHeader, path: string, name: string, shape: readonly number[]): GgufTensorInfo {
  const info = header.tensors.get(ggufTensorName(name));
  if (info === undefined) {
    throw new EngineError('engine.weights.missing', `${path} has no tensor named ${ggufTensorName(name)}`);
  }
  if (info.dims.join() !== shape.join()) {
    throw new EngineError(
      'engine.weights.wrong_shape',
      `${info.name} is [${info.dims.join(', ')}], but the metadata asks for [${shape.join(', ')}]`,
    );
  }
  return info;
}

/**
 * Loads a Llama, Mistral, Qwen2 or Qwen3 from a GGUF file, weights under Hugging Face's names and in its order, widened to
 * fp32 or, if asked, in the file's own 4 bits. Tensors are read one by one.
 *
 * @throws EngineError `engine.model.unsupported` with the name of what cannot be computed (a tensor of no known use
 * included), `engine.model.bad_config | missing_file`, `engine.weights.missing | damaged | wrong_shape | unsupported_dtype |
 * unsupported_version`
 */
export async function loadGguf(path: string, options: LoadGgufOptions = {}): Promise<LoadedGguf> {
  return await withGgufFile(path, async (header, source) => {
    const { config, architecture } = await configOf(header, source);
    const shapes = weightShapes(config);
    const expected = new Set([ROPE_FACTORS, ...[...shapes.keys()].map(ggufTensorName)]);
    const foreign = [...header.tensors.keys()].find((name) => !expected.has(name));
    if (foreign !== undefined) throw unsupported(`tensor ${foreign} has no place in architecture ${architecture}`);
    const weights: WeightMap = new Map();
    const quantized = new Map<string, QuantizedTensor>();
    for (const [name, shape] of shapes) {
      const info = checkedInfo(header, path, name, shape);
      const order = rowOrder(architecture, config, name, 'hf');
      const lookedUp = name === 'model.embed_tokens.weight';
      if (options.keepQuantized === true && isFourBit(info.type) && !lookedUp) {
        quantized.set(name, await readGgufQuantized(source, info, order));
      } else {
        weights.set(name, await readGgufTensor(source, info, order));
      }
    }
    return {
      path,
      config,
      weights,
      ...(quantized.size > 0 && { quantized }),
      metadata: header.metadata,
      eosTokenIds: endTokens(header.metadata),
    };
  });
}

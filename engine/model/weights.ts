import path from 'node:path';
import type { ModelConfig } from './description.js';
import { matchTensors } from './expected-tensors.js';
import type { Checkpoint } from './model-spec.js';
import { readStoredTensors } from './safetensors.js';

/**
 * Reads the headers of a folder's weights; the weights themselves are mapped by native. Throws
 * `EngineError('model_invalid')` that names the file, the tensor, and what its config asks for.
 */
export async function openWeights(folder: string, { spec, fp8 }: ModelConfig): Promise<Checkpoint> {
  const stored = await readStoredTensors(folder);
  return {
    folder: path.resolve(folder),
    spec,
    files: stored.files,
    ...matchTensors(folder, spec, stored, fp8),
  };
}

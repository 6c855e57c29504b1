import path from 'node:path';
import { modelSpec } from './config.js';
import { matchTensors } from './expected-tensors.js';
import { invalidModel, readJsonIfThere, requireFolder } from './model-files.js';
import type { Checkpoint } from './model-spec.js';
import { fp8FormatOf } from './quantization.js';
import { readStoredTensors } from './safetensors.js';

const maxConfigBytes = 4 * 1024 * 1024;

/**
 * Reads a model folder's description and the headers of its weights; the weights themselves are mapped by native.
 * Throws `EngineError('model_invalid')` that names the file, the tensor, and what was expected.
 */
export async function readCheckpoint(folder: string): Promise<Checkpoint> {
  await requireFolder(folder);
  const configFile = path.resolve(folder, 'config.json');
  const config = await readJsonIfThere(configFile, maxConfigBytes);
  // The architecture first: a model of another kind may keep its weights in another form too.
  const spec = config === undefined ? undefined : modelSpec(configFile, config);
  const stored = await readStoredTensors(folder);
  if (spec === undefined) throw invalidModel(folder, 'config.json is missing');
  const { quantization_config: quantization } = config as { quantization_config?: unknown };
  return {
    folder: path.resolve(folder),
    spec,
    files: stored.files,
    ...matchTensors(folder, spec, stored, fp8FormatOf(configFile, quantization)),
  };
}

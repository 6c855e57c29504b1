import { readConfig } from './description.js';
import type { Checkpoint } from './model-spec.js';
import { openWeights } from './weights.js';

/** Reads what a model's folder says of the model, and the headers of its weights. Throws `EngineError('model_invalid')`. */
export async function readCheckpoint(folder: string): Promise<Checkpoint> {
  return openWeights(folder, await readConfig(folder));
}

import path from 'node:path';
import { modelSpec } from './config.js';
import { readGenerationDefaults } from './generation-defaults.js';
import { type ImageProcessing, readImageProcessing } from './image-processing.js';
import { invalidModel, readJsonIfThere, requireFolder } from './model-files.js';
import type { ModelSpec, VisionSpec } from './model-spec.js';
import { type Fp8Format, fp8FormatOf } from './quantization.js';
import { readStoredTensors } from './safetensors.js';
import type { GenerationDefaults } from './text.js';

const maxConfigBytes = 4 * 1024 * 1024;

/** What a folder's `config.json` says, checked. */
export interface ModelConfig {
  readonly spec: ModelSpec;
  /** Absent where the weights are not in fp8. */
  readonly fp8: Fp8Format | undefined;
}

/**
 * What the small files of a model's folder say, checked. It crosses threads, so that one that runs an engine does not load
 * what checks them, which would be a third of its start.
 */
export interface ModelDescription extends ModelConfig {
  readonly generation: GenerationDefaults;
  /** Absent where the model reads none. */
  readonly images: ImageDescription | undefined;
}

/** What reads a model's images, and what they must be made into for that. */
export interface ImageDescription {
  readonly vision: VisionSpec;
  readonly processing: ImageProcessing;
}

/** Throws `EngineError('model_invalid')` that names the file, and what was expected. */
export async function describeModel(folder: string): Promise<ModelDescription> {
  const config = await readConfig(folder);
  const { vision } = config.spec;
  return {
    ...config,
    generation: await readGenerationDefaults(folder),
    images: vision && { vision, processing: await readImageProcessing(folder, vision) },
  };
}

/** Throws as `describeModel` does. */
export async function readConfig(folder: string): Promise<ModelConfig> {
  await requireFolder(folder);
  const file = path.resolve(folder, 'config.json');
  const config = await readJsonIfThere(file, maxConfigBytes);
  if (config === undefined) {
    // A folder that holds no model at all, or weights in another form, is better told so.
    await readStoredTensors(folder);
    throw invalidModel(folder, 'config.json is missing');
  }
  const spec = modelSpec(file, config);
  const { quantization_config: quantization } = config as { quantization_config?: unknown };
  return { spec, fp8: fp8FormatOf(file, quantization) };
}

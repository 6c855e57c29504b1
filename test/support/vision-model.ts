import { llama1b, type ModelShape } from '../../loadtest/random-model/model-shape.js';
import { makeRandomModel } from '../../loadtest/random-model/random-model.js';

/** An Idefics3 of random weights that encodes a tile in milliseconds: 8 x 8 patches, 16 rows a tile. */
export const tinyVisionShape: ModelShape = {
  ...llama1b,
  layers: 2,
  hidden: 64,
  heads: 4,
  kvHeads: 2,
  headDim: 16,
  ffn: 96,
  vocab: 600,
  contextLength: 8192,
  tiedEmbeddings: false,
  vision: { imageSize: 64, patchSize: 8, layers: 2, hidden: 64, heads: 2, ffn: 128, scaleFactor: 2 },
};

/** Makes its folder: config, tokenizer with the tokens around images, chat template, processor files and weights. */
export function makeVisionModel(folder: string): void {
  makeRandomModel({ folder, shape: tinyVisionShape, seed: 11, gguf: [] });
}

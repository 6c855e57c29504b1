import { Command } from 'commander';
import type { WeightFormat } from '../random-model/block-formats.js';
import { makeRandomModel } from '../random-model/random-model.js';
import { listOf, wholeNumber } from './arguments.js';
import { notice } from './output.js';
import { addShapeOptions, type ShapeOptions, shapeFrom } from './shape-options.js';

interface RandomModelFlags extends ShapeOptions {
  gguf?: WeightFormat[];
  seed: number;
}

export function randomModelCommand(): Command {
  const command = new Command('random-model')
    .description('make a model folder of random weights, to measure a shape without a download')
    .argument('<folder>', 'new folder')
    .option('--gguf <formats>', 'also as GGUF: bf16, q8_0, q4_0, by commas', listOf(['bf16', 'q8_0', 'q4_0']))
    .option('--seed <n>', 'of the weights', wholeNumber(0), 1);
  return addShapeOptions(command).action((folder: string, flags: RandomModelFlags) => {
    makeRandomModel({
      folder,
      shape: shapeFrom(flags),
      seed: flags.seed,
      gguf: flags.gguf ?? [],
      onProgress: notice,
    });
  });
}

import path from 'node:path';
import { Option } from 'commander';
import { packageRoot } from '../../config/package-root.js';
import { EngineSettings, ModelSettings } from '../../config/schema.js';

/** What benches of the engine measure where nothing else is said, and may be told to. */
export const demoModel = path.join(packageRoot, ModelSettings.parse({}).path);
export const weightClasses = ModelSettings.shape.weights.unwrap().options;
export const isas = EngineSettings.shape.isa.unwrap().options;
export type Isa = (typeof isas)[number];

export function isaOption(): Option {
  return new Option('--isa <name>', 'instruction set to use; the best if absent').choices(isas);
}

export function deviceOption(): Option {
  return new Option('--device <name>', 'what to compute on, as "tandem serve" takes it')
    .choices(EngineSettings.shape.device.unwrap().options)
    .default('auto');
}

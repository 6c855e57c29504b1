import path from 'node:path';
import { packageRoot } from '../../config/package-root.js';
import { EngineSettings, ModelSettings } from '../../config/schema.js';

/** What benches of the engine measure where nothing else is said, and may be told to. */
export const demoModel = path.join(packageRoot, ModelSettings.parse({}).path);
export const weightClasses = ModelSettings.shape.weights.unwrap().options;
export const isas = EngineSettings.shape.isa.unwrap().options;
export const devices = EngineSettings.shape.device.unwrap().options;

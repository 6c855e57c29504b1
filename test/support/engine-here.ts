import path from 'node:path';
import { Settings } from '../../config/schema.js';
import type { Engine } from '../../engine/index.js';
import { describeModel } from '../../engine/model/description.js';
import { openLocalEngine } from '../../engine/open-local-engine.js';
import { demoFolder } from './demo.js';
import { oneCore } from './one-core.js';

/**
 * An engine of the demo model in the thread of the test, for tests of what an engine computes and holds. The thread of its own
 * that `openEngine` gives it loads and compiles the engine's code anew, which takes longer than the model; what lies between
 * two threads is tested with `openEngine` (`test/engine/engine.test.ts`, and all that has a server).
 */
export async function openEngineHere(
  engine: Partial<Settings['engine']>,
  model = demoFolder,
): Promise<Engine> {
  const settings = Settings.parse({ model: { path: model }, engine: { ...oneCore, ...engine } });
  return openLocalEngine(settings, await describeModel(path.resolve(model)));
}

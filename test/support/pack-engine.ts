import type { Settings } from '../../config/schema.js';
import type { Engine } from '../../engine/index.js';
import { demoFolder } from './demo.js';
import { openEngineHere } from './engine-here.js';

export type EngineOver = Partial<Settings['engine']>;

/** Small partitions, so that a few hundred tokens overflow all of them. */
export const small = { packSinkTokens: 32, packRecentTokens: 64, packMidTokens: 128, packTopPages: 2 };
/** So that what is held when nothing runs is a leak. */
const keepsNothing = { prefixCache: false };

/** Of the demo model: 6 layers of 4 heads of 64. */
export const demoBlockBytes = { bf16: 196_608, int4: 58_368, far: 6528 };

/** An engine under `--kv pack`. */
export function openPack(engine: EngineOver = {}, model = demoFolder): Promise<Engine> {
  return openEngineHere(
    { kvMemory: 64 << 20, kv: 'pack', maxSequences: 8, ...small, ...keepsNothing, ...engine },
    model,
  );
}

/** The same for this work alone. */
export async function withPack<T>(over: EngineOver, work: (engine: Engine) => Promise<T>): Promise<T> {
  const engine = await openPack(over);
  try {
    return await work(engine);
  } finally {
    await engine.close();
  }
}

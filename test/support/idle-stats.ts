import type { EngineStats } from '../../engine/index.js';

/** Of an engine that has done nothing, with all that a cost model adds. */
export const idleStats: EngineStats = {
  running: 0,
  waiting: 0,
  slotsOpen: 0,
  kvBlocksTotal: 1,
  kvBlocksUsed: 0,
  kvBlockBytes: 1,
  kvHeldBytes: { bf16: 0, int8: 0, int4: 0, int2: 0 },
  kvPackedBlocks: 0,
  cache: { blocks: 0, hitTokens: 0, queriedTokens: 0, evictedBlocks: 0 },
  promptTokens: 0,
  promptTokensRead: 0,
  generatedTokens: 0,
  kvSwappedBytes: 0,
  preemptions: 0,
  swapsOut: 0,
  swapsIn: 0,
  steps: { prefill: 0, decode: 0 },
  mixedSteps: 0,
  laneBusySeconds: { prefill: 0, decode: 0 },
  laneUnits: { prefill: 0, decode: 0 },
  unitSeconds: { prefill: 0, decode: 0, mixed: 0 },
  repartitions: 0,
  schedulerSeconds: 0,
  costModelErrorRatio: { prefill: 1, decode: 1 },
};

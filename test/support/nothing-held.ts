import { expect, vi } from 'vitest';
import type { Engine } from '../../engine/index.js';

/**
 * Nothing but exact blocks of the prefix cache is held, once the last step, conversion and copy is over: of requests that
 * were cancelled or have ended, which nobody waits for.
 */
export async function expectNothingHeld(engine: Pick<Engine, 'stats'>): Promise<void> {
  const check = async () => {
    const stats = await engine.stats();
    const { running, waiting, slotsOpen, kvSwappedBytes, kvFarBytes, kvBlocksUsed, kvHeldBytes, cache } =
      stats;
    const uncachedBlocks = kvBlocksUsed - cache.blocks;
    const uncachedBytes = { ...kvHeldBytes, bf16: kvHeldBytes.bf16 - cache.blocks * stats.kvBlockBytes };
    expect({
      ...{ running, waiting, slotsOpen, kvSwappedBytes, kvFarBytes, uncachedBlocks },
      ...uncachedBytes,
    }).toEqual({
      ...{ running: 0, waiting: 0, slotsOpen: 0, kvSwappedBytes: 0, kvFarBytes: 0, uncachedBlocks: 0 },
      ...{ bf16: 0, int8: 0, int4: 0, int2: 0, far: 0 },
    });
  };
  await vi.waitFor(check, { timeout: 60_000, interval: 10 });
}

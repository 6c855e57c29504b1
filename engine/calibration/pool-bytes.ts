/** KV that the contexts of micro-runs are made of, where nothing asks for more. */
const usualBytes = 128 * 2 ** 20;
/**
 * Of a layer's part of the pool, how often it must exceed a GPU's L2. In a step with more tokens than the pool has, sequences
 * share its blocks in turn, so that a kernel comes back to one when it has read all others. Where a cache replaces at random,
 * 1/e^(3 (1 - h)) = h of them would still be there: 6%.
 */
const beyondL2 = 3;
/** Of what the weights leave free. */
const mostOfRoom = 0.5;

export interface PoolGpu {
  readonly l2Bytes: number;
  /** Memory that weights leave to KV and activations. */
  readonly roomBytes: number;
}

/**
 * KV memory for contexts to be made of, so that attention reads memory as it does in use, and not a cache. A GPU fills some
 * gigabytes in a second; a processor (no `gpu`) would take minutes, and gets the usual.
 */
export function poolBytesFor(layers: number, gpu?: PoolGpu): number {
  if (!gpu) return usualBytes;
  const wanted = layers * beyondL2 * gpu.l2Bytes;
  return Math.max(usualBytes, Math.min(wanted, Math.floor(gpu.roomBytes * mostOfRoom)));
}

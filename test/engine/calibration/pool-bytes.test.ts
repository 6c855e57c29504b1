import { describe, expect, it } from 'vitest';
import { poolBytesFor } from '../../../engine/calibration/pool-bytes.js';

const MiB = 2 ** 20;
const GiB = 2 ** 30;
const l2Bytes = 50 * MiB;

describe("the pool of micro-runs' contexts", () => {
  it("has more of each layer than a GPU's L2 holds", () => {
    expect(poolBytesFor(32, { l2Bytes, roomBytes: 100 * GiB })).toBe(32 * 150 * MiB);
    expect(poolBytesFor(32, { l2Bytes: l2Bytes / 10, roomBytes: 100 * GiB })).toBe(32 * 15 * MiB);
  });

  it('leaves half of what there is beside the weights to activations, and to sequences as they grow', () => {
    expect(poolBytesFor(32, { l2Bytes, roomBytes: 4 * GiB })).toBe(2 * GiB);
  });

  it('is 128 MiB at least, and on a processor', () => {
    expect(poolBytesFor(1, { l2Bytes: 4 * MiB, roomBytes: GiB })).toBe(128 * MiB);
    expect(poolBytesFor(32, { l2Bytes, roomBytes: -GiB })).toBe(128 * MiB);
    expect(poolBytesFor(32)).toBe(128 * MiB);
  });
});

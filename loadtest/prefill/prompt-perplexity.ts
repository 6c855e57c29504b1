import { type Device, Want } from '../../engine/index.js';
import type { PackedDevice } from '../device/packed-device.js';
import { makeRoom, read, withSlots } from '../device/workloads.js';

/** Rows of a prompt, as their positions. */
export interface RowRange {
  readonly begin: number;
  readonly end: number;
}

/**
 * How surprised the rows of each range are by the token that follows them: e to the mean of -ln p, over texts that are read
 * as prompts, each alone.
 */
export async function promptPerplexities(
  device: Device & Partial<PackedDevice>,
  texts: readonly Int32Array[],
  ranges: readonly RowRange[],
): Promise<number[]> {
  const sums = ranges.map(() => ({ nats: 0, tokens: 0 }));
  for (const text of texts) {
    const logprobs = await scored(device, text);
    for (const [at, { begin, end }] of ranges.entries()) {
      // The row before a token foresees it.
      const foreseen = logprobs.subarray(begin + 1, end + 1);
      sums[at]!.nats -= foreseen.reduce((sum, logprob) => sum + logprob, 0);
      sums[at]!.tokens += foreseen.length;
    }
  }
  return sums.map(({ nats, tokens }) => Math.exp(nats / tokens));
}

/** ln p of each token of the text given those before it; NaN for the first. */
function scored(device: Device & Partial<PackedDevice>, text: Int32Array): Promise<Float32Array> {
  const logprobs = new Float32Array(text.length);
  return withSlots(device, 1, async () => {
    makeRoom(device, 0, text.length);
    device.partition(device.info.units);
    await read(device, 0, text, Want.promptLogprobs, (begin, { promptLogprobs }) =>
      logprobs.set(promptLogprobs.get(0)!.logprobs, begin),
    );
    return logprobs;
  });
}

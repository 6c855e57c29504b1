import { type Device, Want } from '../../engine/index.js';
import { makeRoom, withSlotsOfAll } from '../device/workloads.js';

/** What the devices foresaw at one place of one window. */
export interface Prediction {
  /** Tokens that the caches held. */
  readonly position: number;
  /** The token that came next. */
  readonly next: number;
  /** Of each device, [vocab]. */
  readonly logits: readonly Float32Array[];
}

/**
 * Gives every device the same windows of text, one token of each a decode step, and shows what each device foresees
 * before it is told. So every prediction rests on keys and values that were read back from the cache. All windows are
 * of the same length.
 */
export async function teacherForce(
  devices: readonly Device[],
  windows: readonly Int32Array[],
  onPrediction: (prediction: Prediction) => void,
  onProgress: (done: number) => void,
): Promise<void> {
  const length = windows[0]!.length;
  await withSlotsOfAll(devices, windows.length, async (slots) => {
    for (const device of devices) {
      for (const slot of slots) makeRoom(device, slot, length);
      device.partition(0);
    }
    for (let at = 0; at < length - 1; at += 1) {
      const step = {
        slots,
        counts: new Int32Array(slots.length).fill(1),
        tokens: Int32Array.from(windows, (window) => window[at]!),
        wants: new Uint8Array(slots.length).fill(Want.logits),
      };
      const results = [];
      // One after the other: they share the cores.
      for (const device of devices) results.push(await device.decode.run(step));
      for (const [entry, window] of windows.entries()) {
        onPrediction({
          position: at + 1,
          next: window[at + 1]!,
          logits: results.map(({ logits }) => logits.get(entry)!),
        });
      }
      onProgress((at + 1) / (length - 1));
    }
  });
}

import { type Device, Want } from '../../engine/index.js';
import { makeRoom, read, timeDecode, withSlots } from '../device/workloads.js';

/**
 * Bytes of KV memory a token takes, scales and all: of the pages that a sequence holds which has read the prompt and decoded a
 * token behind it, over its tokens.
 */
export function bytesPerToken(device: Device, prompt: readonly number[]): Promise<number> {
  return withSlots(device, 1, async (slots) => {
    makeRoom(device, 0, prompt.length + 1);
    device.partition(device.info.units);
    await read(device, 0, prompt, Want.sample);
    await timeDecode(device, slots, 1);
    const held = Object.values(device.kv.heldBytes()).reduce((sum, bytes) => sum + bytes, 0);
    return held / device.kv.length(0);
  });
}

import { type Device, Want } from '../../engine/index.js';
import { makeRoom, read, timeDecode, withSlots } from '../device/workloads.js';

/**
 * Bytes of KV memory a token takes, scales and all: what the pool is short of while it holds a sequence that has read
 * the prompt and decoded a token behind it, over its tokens.
 */
export function bytesPerToken(device: Device, prompt: readonly number[]): Promise<number> {
  return withSlots(device, 1, async (slots) => {
    const { kv } = device;
    const free = kv.freeBlocks();
    makeRoom(device, 0, prompt.length + 1);
    device.partition(device.info.units);
    await read(device, 0, prompt, Want.sample);
    await timeDecode(device, slots, 1);
    return ((free - kv.freeBlocks()) * kv.blockBytes) / kv.length(0);
  });
}

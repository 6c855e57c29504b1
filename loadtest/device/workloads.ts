import {
  type BornClass,
  type Device,
  greedySampling,
  type PackingRule,
  type Step,
  type StepResult,
  Want,
} from '../../engine/index.js';
import { type PackedDevice, packedDevice } from './packed-device.js';

/** Seconds to read one prompt into an empty sequence on all units, with its first token sampled. */
export function prefill(device: Device, prompt: ArrayLike<number>): Promise<number> {
  return withSlots(device, 1, async () => {
    makeRoom(device, 0, prompt.length);
    device.partition(device.info.units);
    const begin = performance.now();
    await read(device, 0, prompt, Want.sample);
    return secondsSince(begin);
  });
}

/**
 * Reads the prompts untimed, and packs of them what the rule says; seconds to extend all of them together by `steps` tokens
 * each on all units.
 */
export function decode(
  device: Device,
  prompts: readonly ArrayLike<number>[],
  steps: number,
  packing?: PackingRule,
): Promise<number> {
  const packed = packing && packedDevice(device, { packing });
  return withSlots(packed ?? device, prompts.length, async (slots) => {
    device.partition(device.info.units);
    for (const [slot, prompt] of prompts.entries()) {
      makeRoom(device, slot, prompt.length);
      await read(packed ?? device, slot, prompt, Want.sample);
      await packed?.pack(slot);
      makeRoom(device, slot, prompt.length + steps, packing?.recent);
    }
    return timeDecode(device, slots, steps);
  });
}

/** Seconds to pack what the rule says of a prompt that was read, before its first step; nothing else runs. */
export function packPrompt(device: Device, prompt: ArrayLike<number>, packing: PackingRule): Promise<number> {
  const packed = packedDevice(device, { packing });
  return withSlots(packed, 1, async () => {
    makeRoom(device, 0, prompt.length);
    device.partition(device.info.units);
    await read(packed, 0, prompt, Want.sample);
    const begin = performance.now();
    await packed.pack(0);
    return secondsSince(begin);
  });
}

/** The logits after a prompt, [vocab]. */
export function logitsAfter(device: Device, prompt: ArrayLike<number>): Promise<Float32Array> {
  return withSlots(device, 1, async () => {
    makeRoom(device, 0, prompt.length);
    device.partition(device.info.units);
    const result = await read(device, 0, prompt, Want.logits);
    return result.logits.get(0)!;
  });
}

/** Seconds of `steps` decode steps of slots that hold their prompt and a sampled token, on all units. */
export async function timeDecode(device: Device, slots: Int32Array, steps: number): Promise<number> {
  const step: Step = {
    slots,
    counts: new Int32Array(slots.length),
    tokens: new Int32Array(),
    wants: new Uint8Array(slots.length).fill(Want.sample),
  };
  device.partition(0);
  const begin = performance.now();
  for (let done = 0; done < steps; done += 1) await device.decode.run(step);
  return secondsSince(begin);
}

/**
 * Appends the prompt to the slot, as the engine does: in chunks of at most a step's tokens. The last has `wants`; with
 * `onStep`, which sees each step's first position and result, all have.
 */
export async function read(
  device: Device & Partial<PackedDevice>,
  slot: number,
  prompt: ArrayLike<number>,
  wants: number,
  onStep?: (begin: number, result: StepResult) => void,
): Promise<StepResult> {
  const tokens = Int32Array.from(prompt);
  device.expectPrompt?.(slot, tokens.length);
  const { maxStepTokens } = device.info;
  for (let begin = 0; ; ) {
    const limit = Math.min(maxStepTokens, device.stepLimit?.(slot) ?? maxStepTokens);
    const chunk = tokens.subarray(begin, begin + limit);
    const isLast = begin + chunk.length === tokens.length;
    const result = await device.prefill.run({
      slots: Int32Array.of(slot),
      counts: Int32Array.of(chunk.length),
      tokens: chunk,
      wants: Uint8Array.of(isLast || onStep ? wants : Want.nothing),
    });
    onStep?.(begin, result);
    if (isLast) return result;
    begin += chunk.length;
  }
}

/** Slots 0 to count - 1, open while `work` runs. */
export async function withSlots<T>(
  device: Device,
  count: number,
  work: (slots: Int32Array) => Promise<T>,
): Promise<T> {
  if (count > device.info.slots) {
    throw new RangeError(`${count} sequences at once, but the device was opened for ${device.info.slots}`);
  }
  const slots = Int32Array.from({ length: count }, (_, slot) => slot);
  for (const slot of slots) device.openSlot(slot, greedySampling);
  try {
    return await work(slots);
  } finally {
    for (const slot of slots) device.closeSlot(slot);
  }
}

/** The same slots of every device, open while `work` runs. */
export function withSlotsOfAll<T>(
  devices: readonly Device[],
  count: number,
  work: (slots: Int32Array) => Promise<T>,
): Promise<T> {
  const [device, ...rest] = devices;
  return withSlots(device!, count, (slots) =>
    rest.length === 0 ? work(slots) : withSlotsOfAll(rest, count, work),
  );
}

export function makeRoom(device: Device, slot: number, tokens: number, born?: BornClass): void {
  if (device.kv.reserve(slot, tokens, born)) return;
  const { totalBlocks, blockBytes, pageTokens } = device.kv;
  throw new RangeError(
    `no room for a sequence of ${tokens} tokens: the KV cache holds ${totalBlocks * pageTokens} tokens in ` +
      `${Math.round((totalBlocks * blockBytes) / 2 ** 20)} MiB (--kv-memory)`,
  );
}

function secondsSince(begin: number): number {
  return (performance.now() - begin) / 1000;
}

import type { Device, PackingRule, Step } from '../../engine/index.js';

interface PackedSlot {
  /** What the slot holds before its first step on the decode lane; unknown until then. */
  promptTokens: number | undefined;
  packedTokens: number;
}

/**
 * The device, its sequences packed as the engine packs them: by its rule, before the decode step that needs it. Where
 * the engine lets a conversion run beside other steps, here the step waits for it.
 */
export function packedDevice(device: Device, rule: PackingRule): Device {
  const { kv } = device;
  const slots = new Map<number, PackedSlot>();

  async function pack(slot: number): Promise<void> {
    const state = slots.get(slot)!;
    const position = kv.length(slot);
    state.promptTokens ??= position;
    const due = rule.packedAt(state.promptTokens, position);
    if (due <= state.packedTokens) return;
    const conversion = kv.convert(
      slot,
      state.packedTokens / kv.pageTokens,
      due / kv.pageTokens,
      rule.precision,
    );
    if (!conversion) throw new RangeError(`no room to pack a sequence of ${position} tokens`);
    await conversion;
    kv.finishConversion(slot);
    state.packedTokens = due;
  }

  return {
    ...device,
    openSlot(slot, sampling) {
      device.openSlot(slot, sampling);
      slots.set(slot, { promptTokens: undefined, packedTokens: 0 });
    },
    decode: {
      async run(step: Step) {
        for (const slot of step.slots) await pack(slot);
        return device.decode.run(step);
      },
    },
  };
}

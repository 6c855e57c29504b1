import type { Device, Lane, PackingRule, Step, StepResult } from '../../engine/index.js';
import { chooseClasses, Saliency } from '../../engine/index.js';

/** A device whose sequences are packed by a rule. */
export interface PackedDevice extends Device {
  /** How long the prompt is that is about to be read: its last rows decide how it is packed. */
  expectPrompt(slot: number, tokens: number): void;
  /** Packs what must be packed before the slot's next decode step. */
  pack(slot: number): Promise<void>;
}

interface PackedSlot {
  /** What the slot holds before its first step on the decode lane; unknown until it is said or seen. */
  promptTokens: number | undefined;
  packedTokens: number;
  saliency: Saliency | undefined;
}

/**
 * The device, its sequences packed as the engine packs them: by its rule, before the decode step that needs it. Where
 * the engine lets a conversion run beside other steps, here the step waits for it.
 */
export function packedDevice(device: Device, rule: PackingRule): PackedDevice {
  const { kv } = device;
  const { layers } = device.info.spec;
  const slots = new Map<number, PackedSlot>();

  function startDecoding(slot: number): { state: PackedSlot; promptTokens: number } {
    const state = slots.get(slot)!;
    state.promptTokens ??= kv.length(slot);
    return { state, promptTokens: state.promptTokens };
  }

  async function pack(slot: number): Promise<void> {
    const { state, promptTokens } = startDecoding(slot);
    const position = kv.length(slot);
    const due = rule.packedAt(promptTokens, position);
    if (due <= state.packedTokens) return;
    // Pages that are kept as they are may be given up later.
    const begin = rule.form.high === kv.precision ? 0 : state.packedTokens / kv.pageTokens;
    const end = due / kv.pageTokens;
    const scores =
      state.saliency?.scoresAt(rule.decidedAt(promptTokens, position)) ??
      Array.from({ length: layers }, () => new Float64Array(end));
    const conversion = kv.convert(slot, begin, end, chooseClasses(rule.form, scores, begin, end));
    if (!conversion) throw new RangeError(`no room to pack a sequence of ${position} tokens`);
    await conversion;
    kv.finishConversion(slot);
    state.packedTokens = due;
  }

  async function run(lane: Lane, step: Step): Promise<StepResult> {
    const runs = Array.from(step.slots, (slot, entry) => {
      const { promptTokens } = slots.get(slot)!;
      const begin = kv.length(slot);
      const found = rule.probesAmong(
        promptTokens ?? Number.POSITIVE_INFINITY,
        begin,
        begin + Math.max(step.counts[entry]!, 1),
      );
      return found.map((run) => ({ slot, entry, run, row: run.position - begin }));
    }).flat();
    const probes = Int32Array.from(runs.flatMap(({ entry, row, run }) => [entry, row, run.count]));
    const result = await lane.run({ ...step, probes });
    for (const [index, { slot, run }] of runs.entries()) {
      const state = slots.get(slot)!;
      state.saliency ??= new Saliency(state.promptTokens!, layers, kv.pageTokens);
      state.saliency.add(run, result.saliency[index]!);
    }
    return result;
  }

  return {
    ...device,
    openSlot(slot, sampling) {
      device.openSlot(slot, sampling);
      slots.set(slot, { promptTokens: undefined, packedTokens: 0, saliency: undefined });
    },
    expectPrompt(slot, tokens) {
      slots.get(slot)!.promptTokens = tokens;
    },
    pack,
    prefill: { run: (step) => run(device.prefill, step) },
    decode: {
      async run(step) {
        for (const slot of step.slots) await pack(slot);
        return run(device.decode, step);
      },
    },
  };
}

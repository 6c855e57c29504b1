import type { Device, Lane, PackingRule, SparsePrefill, Step, StepResult } from '../../engine/index.js';
import { chooseClasses, followedBy, PrefillSight, Saliency, type SeenPages } from '../../engine/index.js';

/** What a sequence's KV goes through. */
export interface KvRules {
  readonly packing?: PackingRule | undefined;
  readonly sparse?: SparsePrefill | undefined;
}

/** A device whose sequences are packed and read their prompts by rules. */
export interface PackedDevice extends Device {
  /** How long the prompt is that is about to be read: its last rows decide how it is packed. */
  expectPrompt(slot: number, tokens: number): void;
  /** Packs what must be packed before the slot's next decode step. */
  pack(slot: number): Promise<void>;
  /** Tokens that the slot's next step may bring. */
  stepLimit(slot: number): number;
}

interface PackedSlot {
  /** What the slot holds before its first step on the decode lane; unknown until it is said or seen. */
  promptTokens: number | undefined;
  packedTokens: number;
  /** Of the prompt, those that were converted. */
  roundedTokens: number;
  saliency: Saliency | undefined;
  sight: PrefillSight | undefined;
}

/**
 * The device, its sequences treated as the engine treats them: packed by its rule, before the decode step that needs it,
 * and prompts that look where its rule says. Where the engine lets a conversion run beside other steps, here the step
 * waits for it. Room is made by each step, in the class that its tokens are written to: nothing is reserved before.
 */
export function packedDevice(device: Device, { packing: rule, sparse }: KvRules): PackedDevice {
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
    if (!rule) return;
    const position = kv.length(slot);
    const due = rule.packedAt(promptTokens, position);
    const rounded = rule.roundedAt(promptTokens, position);
    if (due <= state.packedTokens && rounded <= state.roundedTokens) return;
    // Pages that are kept as they are may be given up later.
    const begin = rule.form.high === kv.precision ? 0 : state.packedTokens / kv.pageTokens;
    const packedEnd = due / kv.pageTokens;
    const end = rounded > state.roundedTokens ? Math.ceil(rounded / kv.pageTokens) : packedEnd;
    const scores =
      state.saliency?.scoresAt(rule.decidedAt(promptTokens, position)) ??
      Array.from({ length: layers }, () => new Float64Array(packedEnd));
    const classes = followedBy(
      chooseClasses(rule.form, scores, begin, packedEnd),
      rule.recent,
      (end - packedEnd) * layers,
    );
    const conversion = kv.convert(slot, begin, end, classes);
    if (!conversion) throw new RangeError(`no room to pack a sequence of ${position} tokens`);
    await conversion;
    kv.finishConversion(slot);
    state.packedTokens = due;
    state.roundedTokens = rounded;
  }

  async function run(lane: Lane, step: Step): Promise<StepResult> {
    const entries = Array.from(step.slots, (slot, entry) => {
      const { promptTokens = Number.POSITIVE_INFINITY, sight } = slots.get(slot)!;
      const begin = kv.length(slot);
      const end = begin + Math.max(step.counts[entry]!, 1);
      const born = rule && begin >= promptTokens ? rule.recent : kv.precision;
      if (!kv.reserve(slot, end, born)) throw new RangeError(`no room for a sequence of ${end} tokens`);
      const packing = rule?.probesAmong(promptTokens, begin, end) ?? [];
      const looks = [
        ...packing.map((run) => ({ run, decides: 'packing' as const })),
        ...(sight && sparse ? sparse.probesAmong(promptTokens, begin, end) : []).map((run) => ({
          run,
          decides: 'sight' as const,
        })),
      ];
      return { slot, entry, begin, looks, seen: sight?.at(begin) };
    });
    const runs = entries.flatMap(({ looks, ...entry }) => looks.map((look) => ({ ...entry, ...look })));
    const result = await lane.run({
      ...step,
      probes: Int32Array.from(
        runs.flatMap(({ entry, begin, run }) => [entry, run.position - begin, run.count]),
      ),
      sparse: sparseEntries(entries),
    });
    for (const [index, { slot, run, decides }] of runs.entries()) {
      const state = slots.get(slot)!;
      const sums = result.saliency[index]!;
      if (decides === 'sight') {
        state.sight!.add(run, sums);
      } else {
        state.saliency ??= new Saliency(state.promptTokens!, layers, kv.pageTokens);
        state.saliency.add(run, sums);
      }
    }
    return result;
  }

  return {
    ...device,
    kv: { ...kv, reserve: () => true },
    openSlot(slot, sampling, embedded) {
      device.openSlot(slot, sampling, embedded);
      slots.set(slot, {
        promptTokens: undefined,
        packedTokens: 0,
        roundedTokens: 0,
        saliency: undefined,
        sight: undefined,
      });
    },
    expectPrompt(slot, tokens) {
      const state = slots.get(slot)!;
      state.promptTokens = tokens;
      if (sparse) state.sight = new PrefillSight(sparse, tokens);
    },
    stepLimit(slot) {
      const { promptTokens } = slots.get(slot)!;
      const position = kv.length(slot);
      if (!sparse || promptTokens === undefined) return Number.POSITIVE_INFINITY;
      return sparse.nextAt(promptTokens, position) - position;
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

function sparseEntries(entries: readonly { entry: number; seen: SeenPages | undefined }[]) {
  const sparse = entries.flatMap(({ entry, seen }) => (seen ? [{ entry, seen }] : []));
  return {
    pages: Int32Array.from(sparse.flatMap(({ entry, seen }) => [entry, seen.pages])),
    isSeen: Uint8Array.from(sparse.flatMap(({ seen }) => [...seen.isSeen])),
  };
}

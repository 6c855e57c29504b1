import { type Device, Want } from '../../engine/index.js';
import { randomPrompt, randomPrompts } from '../device/prompts.js';
import { makeRoom, prefill, read, timeDecode, withSlotsOfAll } from '../device/workloads.js';
import { median } from '../statistics.js';

export interface TimingPlan {
  /** Tokens of the prompts that are read, and that each sequence holds when the last of its steps is timed. */
  readonly context: number;
  /** How many sequences a decode step extends together, one figure each. */
  readonly sequences: readonly number[];
  readonly repetitions: number;
  readonly seed: number;
}

/** Medians, in seconds. */
export interface StepTimes {
  /** To read a prompt of `context` tokens. */
  readonly prefill: number;
  /** Of one step, in the order of the plan's `sequences`. */
  readonly decode: readonly number[];
}

/** Decode steps of one turn, each timed by itself. */
const stepsPerTurn = 8;

/** Tokens a sequence grows by while it is timed. */
export function growthOf({ sequences, repetitions }: TimingPlan): number {
  return stepsPerTurn * sequences.length * repetitions;
}

/**
 * Of each device; nothing where the plan has no turns. They take turns, A B A B ..., so that whatever changes on the machine
 * meets all of them.
 */
export async function measureStepTimes(devices: readonly Device[], plan: TimingPlan): Promise<StepTimes[]> {
  if (plan.repetitions === 0) return [];
  const prefills = await timePrefill(devices, plan);
  const decodes = await timeDecodeSteps(devices, plan);
  return devices.map((_, at) => ({
    prefill: median(prefills[at]!),
    decode: decodes[at]!.map(median),
  }));
}

/** [device][turn] */
async function timePrefill(devices: readonly Device[], plan: TimingPlan): Promise<number[][]> {
  const times: number[][] = devices.map(() => []);
  // The first turn warms up and does not count.
  for (let turn = 0; turn <= plan.repetitions; turn += 1) {
    for (const [at, device] of devices.entries()) {
      const prompt = randomPrompt(plan.context, device.info.spec.vocab, plan.seed + turn);
      const seconds = await prefill(device, prompt);
      if (turn > 0) times[at]!.push(seconds);
    }
  }
  return times;
}

/** [device][of plan.sequences][step] */
async function timeDecodeSteps(devices: readonly Device[], plan: TimingPlan): Promise<number[][][]> {
  const times: number[][][] = devices.map(() => plan.sequences.map(() => []));
  const together = Math.max(...plan.sequences);
  const held = plan.context - growthOf(plan);
  await withFullSlots(devices, together, held, plan, async (slots) => {
    for (let turn = 0; turn < plan.repetitions; turn += 1) {
      for (const [index, count] of plan.sequences.entries()) {
        for (const [at, device] of devices.entries()) {
          for (let step = 0; step < stepsPerTurn; step += 1) {
            times[at]![index]!.push(await timeDecode(device, slots.subarray(0, count), 1));
          }
        }
      }
    }
  });
  return times;
}

/** Slots of every device that hold `tokens` tokens and a sampled one, with room for the whole context. */
function withFullSlots(
  devices: readonly Device[],
  count: number,
  tokens: number,
  plan: TimingPlan,
  work: (slots: Int32Array) => Promise<void>,
): Promise<void> {
  return withSlotsOfAll(devices, count, async (slots) => {
    for (const device of devices) {
      device.partition(device.info.units);
      const prompts = randomPrompts(count, tokens, device.info.spec.vocab, plan.seed);
      for (const [slot, prompt] of prompts.entries()) {
        makeRoom(device, slot, plan.context);
        await read(device, slot, prompt, Want.sample);
      }
    }
    await work(slots);
  });
}

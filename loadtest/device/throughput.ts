import { median } from '../statistics.js';
import type { BenchDevice } from './open.js';
import { randomPrompt, randomPrompts } from './prompts.js';
import { decode, packPrompt, prefill } from './workloads.js';

export interface ThroughputPlan {
  /** Lengths of the prompts that are read. */
  readonly prompts: readonly number[];
  /** How many sequences are extended together. */
  readonly sequences: readonly number[];
  /** Tokens each holds before. */
  readonly context: number;
  /** Tokens each is extended by. */
  readonly generate: number;
  readonly repetitions: number;
}

export interface Throughput {
  readonly workload: string;
  /** Tokens a second, medians, one per device in the order given; NaN where the device has no such work. */
  readonly rates: readonly number[];
}

/**
 * Runs every workload on every device in turns. A first turn is not counted. `onMeasured` sees each counted one.
 */
export async function measureThroughput(
  devices: readonly BenchDevice[],
  plan: ThroughputPlan,
  onMeasured: (device: number, workload: string, rate: number) => void,
): Promise<Throughput[]> {
  const workloads = workloadsOf(devices, plan);
  const rates = workloads.map(() => devices.map(() => [] as number[]));
  for (let repetition = 0; repetition <= plan.repetitions; repetition += 1) {
    for (const [index, { name, tokens, run }] of workloads.entries()) {
      for (const [at, device] of devices.entries()) {
        const seconds = await run(device);
        if (repetition === 0 || seconds === undefined) continue;
        const rate = tokens / seconds;
        rates[index]![at]!.push(rate);
        onMeasured(at, name, rate);
      }
    }
  }
  return workloads.map(({ name }, index) => ({
    workload: name,
    rates: rates[index]!.map((of) => (of.length === 0 ? Number.NaN : median(of))),
  }));
}

function workloadsOf(devices: readonly BenchDevice[], plan: ThroughputPlan) {
  const { vocab } = devices[0]!.device.info.spec;
  const rule = devices.find(({ packing }) => packing)?.packing;
  const packedTokens = rule?.packedAt(plan.context, plan.context) ?? 0;
  const reading = plan.prompts.map((length) => {
    const prompt = randomPrompt(length, vocab, length);
    return { name: `pp${length}`, tokens: length, run: ({ device }: BenchDevice) => prefill(device, prompt) };
  });
  const long = randomPrompt(plan.context, vocab, plan.context);
  const packing = {
    name: `packing ${packedTokens} of ${plan.context}`,
    tokens: packedTokens,
    run: async ({ device, packing }: BenchDevice) =>
      packing && packedTokens > 0 ? await packPrompt(device, long, packing) : undefined,
  };
  const writing = plan.sequences.map((count) => {
    const prompts = randomPrompts(count, plan.context, vocab, count);
    return {
      name: `tg${plan.generate} at ${plan.context}, ${count} together`,
      tokens: count * plan.generate,
      run: ({ device, packing }: BenchDevice) => decode(device, prompts, plan.generate, packing),
    };
  });
  return [...reading, ...writing, packing];
}

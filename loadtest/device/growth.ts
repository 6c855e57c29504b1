import { type Device, Want } from '../../engine/index.js';
import { median } from '../statistics.js';
import { randomPrompt, randomPrompts } from './prompts.js';
import { decode, makeRoom, read, timeDecode, withSlots } from './workloads.js';

/** Decode steps that one figure is the mean of. */
const stepsPerFigure = 16;

/** Tokens each sequence holds while their number grows. */
const contextOfEach = 256;

export interface GrowthPlan {
  /** Rising, each at least `tokensPerContext` above the one before. */
  readonly contexts: readonly number[];
  readonly sequences: readonly number[];
  readonly repetitions: number;
}

export interface Growth {
  /** Seconds of a decode step of one sequence, and of a prefill step of all tokens a step may have. */
  readonly byContext: readonly { context: number; decodeStep: number; prefillStep: number }[];
  readonly bySequences: readonly { sequences: number; decodeStep: number }[];
}

/** Tokens that the measurement at one context appends. */
export function tokensPerContext(stepTokens: number): number {
  return stepsPerFigure + stepTokens;
}

/** Tokens that the KV cache must hold. */
export function growthTokens(plan: GrowthPlan, stepTokens: number): number {
  const longest = Math.max(...plan.contexts) + tokensPerContext(stepTokens);
  return Math.max(longest, Math.max(...plan.sequences) * (contextOfEach + stepsPerFigure));
}

export async function measureGrowth(
  device: Device,
  plan: GrowthPlan,
  onProgress: (line: string) => void,
): Promise<Growth> {
  const passes: Growth[] = [];
  for (let pass = 1; pass <= plan.repetitions; pass += 1) {
    onProgress(`pass ${pass} of ${plan.repetitions}: context length`);
    const byContext = await measureContexts(device, plan.contexts);
    onProgress(`pass ${pass} of ${plan.repetitions}: running sequences`);
    passes.push({ byContext, bySequences: await measureSequences(device, plan.sequences) });
  }
  return {
    byContext: plan.contexts.map((context, index) => ({
      context,
      decodeStep: median(passes.map(({ byContext }) => byContext[index]!.decodeStep)),
      prefillStep: median(passes.map(({ byContext }) => byContext[index]!.prefillStep)),
    })),
    bySequences: plan.sequences.map((sequences, index) => ({
      sequences,
      decodeStep: median(passes.map(({ bySequences }) => bySequences[index]!.decodeStep)),
    })),
  };
}

/** One sequence grows from context to context; at each a few decode steps and one prefill step are timed. */
function measureContexts(device: Device, contexts: readonly number[]): Promise<Growth['byContext']> {
  const { maxStepTokens, spec } = device.info;
  const chunk = randomPrompt(maxStepTokens, spec.vocab, 1);
  return withSlots(device, 1, async (slots) => {
    const found: Growth['byContext'][number][] = [];
    makeRoom(device, 0, contexts.at(-1)! + tokensPerContext(maxStepTokens));
    for (const context of contexts) {
      device.partition(device.info.units);
      const missing = context - device.kv.length(0);
      await read(device, 0, randomPrompt(missing, spec.vocab, context), Want.sample);
      const decodeStep = (await timeDecode(device, slots, stepsPerFigure)) / stepsPerFigure;
      device.partition(device.info.units);
      const begin = performance.now();
      await read(device, 0, chunk, Want.sample);
      found.push({ context, decodeStep, prefillStep: (performance.now() - begin) / 1000 });
    }
    return found;
  });
}

async function measureSequences(device: Device, counts: readonly number[]): Promise<Growth['bySequences']> {
  const found: Growth['bySequences'][number][] = [];
  for (const sequences of counts) {
    const prompts = randomPrompts(sequences, contextOfEach, device.info.spec.vocab, sequences);
    found.push({ sequences, decodeStep: (await decode(device, prompts, stepsPerFigure)) / stepsPerFigure });
  }
  return found;
}

import { nearestSplit } from '../scheduler/splits.js';
import { StepLoad } from '../scheduler/step-load.js';

/** What one step of a micro-run holds: chunks of prompts, and sequences that decode. */
export interface Shape {
  readonly chunks: readonly { readonly tokens: number; readonly context: number }[];
  readonly sequences: number;
  /** Tokens each decoding sequence holds at first. */
  readonly context: number;
}

export type MicroRun =
  | { readonly mode: 'alone'; readonly shape: Shape; readonly units: number }
  | {
      readonly mode: 'together';
      readonly prefill: Shape;
      readonly decode: Shape;
      readonly prefillUnits: number;
    };

export interface PlanLimits {
  readonly units: number;
  /** Units of prefill in each split of the device, rising. */
  readonly splits: readonly number[];
  readonly maxStepTokens: number;
  readonly maxSequences: number;
  /** Contexts are multiples of it. */
  readonly pageTokens: number;
  readonly contextLength: number;
  readonly kvBytesPerToken: number;
  /** A dozen runs instead of the whole grid, to see that all of it works. */
  readonly quick: boolean;
}

/** Chunks in one step at most. */
export const maxChunks = 4;

/**
 * Steps over the sizes that serving meets: prompts and decoding sequences alone, in one step, and on both lanes at once,
 * on several shares of the device.
 */
export function planMicroRuns(limits: PlanLimits): MicroRun[] {
  const { units, maxStepTokens, maxSequences, contextLength, pageTokens, quick } = limits;
  const pick = (values: readonly number[], most: number) => values.filter((value) => value <= most);
  const tokens = pick(quick ? [16, 64] : [16, 48, 128, 256, 512, 2048], maxStepTokens);
  const sequences = pick(quick ? [1, 4] : [1, 2, 4, 8, 16, 32, 64], maxSequences);
  // The last of a context's tokens is the first one's that is generated behind it.
  const contexts = pick(quick ? [0, 256] : [0, 256, 1024, 4096, 16384], contextLength - maxStepTokens).map(
    (context) => context - (context % pageTokens),
  );
  const decodeContexts = contexts.map((context) => Math.max(context, pageTokens));

  const prompts = tokens.flatMap((count) => [
    ...contexts.map((context) => promptOf([{ tokens: count, context }])),
    // Several short prompts in one step.
    ...(count >= 64 ? [promptOf(Array(maxChunks).fill({ tokens: count / maxChunks, context: 0 }))] : []),
  ]);
  const decodes = sequences.flatMap((count) => decodeContexts.map((context) => decodeOf(count, context)));
  const someContext = middle(contexts);

  const runs: MicroRun[] = [];
  for (const share of [...someSplits(limits), units]) {
    for (const shape of prompts) runs.push({ mode: 'alone', shape, units: share });
  }
  // Decode has what a split leaves.
  for (const share of [...someSplits(limits).map((split) => units - split), units]) {
    for (const shape of decodes) runs.push({ mode: 'alone', shape, units: share });
  }
  for (const count of few(tokens)) {
    for (const decoding of few(sequences)) {
      if (count + decoding > maxStepTokens) continue;
      const context = Math.max(someContext, pageTokens);
      const shape = { chunks: [{ tokens: count, context: 0 }], sequences: decoding, context };
      runs.push({ mode: 'alone', shape, units });
    }
  }
  for (const prefillUnits of someSplits(limits)) {
    for (const count of few(tokens)) {
      for (const decoding of few(sequences)) {
        for (const context of [decodeContexts[0]!, decodeContexts.at(-1)!]) {
          const prefill = promptOf([{ tokens: count, context: someContext }]);
          runs.push({ mode: 'together', prefill, decode: decodeOf(decoding, context), prefillUnits });
        }
      }
    }
  }
  return shuffled(unique(runs));
}

/** Of the runs, in their order, those that fit into `seconds` together; none takes more than a fifteenth of it. */
export function withinBudget(
  runs: readonly MicroRun[],
  seconds: number,
  estimate: (run: MicroRun) => number,
): MicroRun[] {
  let left = seconds;
  return runs.filter((run) => {
    const cost = estimate(run);
    if (cost > seconds / 15 || cost > left) return false;
    left -= cost;
    return true;
  });
}

/** The load of a shape's step, after `grown` steps of its decoding sequences. */
export function loadOfShape(shape: Shape, grown: number, kvBytesPerToken: number): StepLoad {
  const load = new StepLoad();
  for (const { tokens, context } of shape.chunks) load.addChunk(tokens, context, kvBytesPerToken, true);
  for (let index = 0; index < shape.sequences; index++) {
    load.addDecode(shape.context + grown + 1, kvBytesPerToken);
  }
  return load;
}

function promptOf(chunks: Shape['chunks']): Shape {
  return { chunks, sequences: 0, context: 0 };
}

function decodeOf(sequences: number, context: number): Shape {
  return { chunks: [], sequences, context };
}

/** The splits nearest to a quarter, half and three quarters of the units for prefill. */
function someSplits({ units, splits }: PlanLimits): number[] {
  const nearest = [0.25, 0.5, 0.75].flatMap((part) => nearestSplit(splits, units * part) ?? []);
  return [...new Set(nearest)];
}

function middle<T>(values: readonly T[]): T {
  return values[Math.floor(values.length / 2)]!;
}

/** The ends and the middle. */
function few<T>(values: readonly T[]): T[] {
  return [values[0]!, middle(values), values.at(-1)!];
}

function unique(runs: readonly MicroRun[]): MicroRun[] {
  return [...new Map(runs.map((run) => [JSON.stringify(run), run])).values()];
}

/** The same order each time, in which neighbours have nothing in common: a slow minute of the machine hits all kinds. */
function shuffled<T>(values: readonly T[]): T[] {
  const result = [...values];
  let state = 1;
  for (let index = result.length - 1; index > 0; index--) {
    // Park and Miller's generator.
    state = (state * 48271) % 2147483647;
    const other = state % (index + 1);
    [result[index], result[other]] = [result[other]!, result[index]!];
  }
  return result;
}

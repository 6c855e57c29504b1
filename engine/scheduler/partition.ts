import { mixedGrain } from './chunks.js';
import { StepLoad } from './step-load.js';

/** What a split costs, as `cost-model.ts` foresees it. Seconds. */
export interface Predictor {
  /** A step that runs alone on so many units. */
  alone(load: StepLoad, units: number): number;
  /** One step of each lane while the other lane is busy all the time. */
  together(
    prefill: StepLoad,
    decode: StepLoad,
    prefillUnits: number,
    out: { prefill: number; decode: number },
  ): void;
}

/** One way to share the device, with what the model foresees of it. */
export interface Candidate {
  /** Both lanes at once, or one lane whose steps carry both. */
  readonly mode: 'split' | 'mixed';
  /** Of prefill; all of them where steps are mixed. */
  readonly prefillUnits: number;
  readonly chunkTokens: number;
  readonly prefillSeconds: number;
  /** From token to token. */
  readonly decodeSeconds: number;
  /** Prompt tokens a second. */
  readonly prefillRate: number;
  /** Whether it keeps the bound of its `Goal`. */
  readonly isWithin: boolean;
}

/**
 * What is sought (Nexus, section on dynamic partitioning): with memory to spare the fastest prefill that keeps decode
 * within a bound; with memory short the fastest decode that keeps prefill within one, so that memory is drained.
 */
export type Goal =
  | { readonly favours: 'prefill'; readonly maxDecodeSeconds: number }
  | { readonly favours: 'decode'; readonly minPrefillRate: number };

export interface PartitionInput {
  readonly predictor: Predictor;
  readonly units: number;
  /** Units of prefill in each split, rising. */
  readonly splits: readonly number[];
  readonly prefill: (tokens: number) => StepLoad;
  /** Longest chunk there could be, in tokens. */
  readonly maxChunkTokens: number;
  /**
   * Longest that a split's chunk should take, so that a short prompt which arrives meanwhile soon has its turn; unless it
   * has to be longer to be worth its read of the weights.
   */
  readonly chunkSeconds: number;
  readonly decode: StepLoad;
  readonly goal: Goal;
  /** The split from which the walk starts. */
  readonly from: number | undefined;
}

/** A split and a mixed step that differ by less serve the goal alike. */
const littleGain = 0.05;

/** Of the tokens a second that the longest chunk reaches, those that a shorter one must reach. */
const chunkEfficiency = 0.98;

/** Which of two candidates serves the goal better: above 0 if `a` does. Its size is the relative gain, where both keep the bound. */
export function gain(a: Candidate, b: Candidate, goal: Goal): number {
  if (a.isWithin !== b.isWithin) return a.isWithin ? Number.POSITIVE_INFINITY : Number.NEGATIVE_INFINITY;
  // Out of bounds, what the bound is about comes first.
  const byRate = goal.favours === 'prefill' ? a.isWithin : !a.isWithin;
  return byRate ? a.prefillRate / b.prefillRate - 1 : b.decodeSeconds / a.decodeSeconds - 1;
}

/**
 * The best split by a greedy walk from the present one, and the best mixed step. All that were looked at, the better
 * ones last; never empty.
 */
export function findCandidates(input: PartitionInput): Candidate[] {
  const found = walkSplits(input);
  const mixed = mixedCandidate(input);
  const best = found.at(-1);
  if (best && isBetter(best, mixed, input.goal)) found.splice(-1, 0, mixed);
  else found.push(mixed);
  return found;
}

/** By the goal; where that makes little difference, by what the other phase feels. */
function isBetter(a: Candidate, b: Candidate, goal: Goal): boolean {
  const byGoal = gain(a, b, goal);
  if (Math.abs(byGoal) > littleGain) return byGoal > 0;
  return goal.favours === 'prefill' ? a.decodeSeconds < b.decodeSeconds : a.prefillRate > b.prefillRate;
}

function walkSplits(input: PartitionInput): Candidate[] {
  const { splits, goal } = input;
  if (splits.length === 0) return [];
  const start = input.from === undefined ? -1 : splits.indexOf(input.from);
  let index = start < 0 ? splits.length >> 1 : start;
  let best = splitCandidate(input, splits[index]!);
  const found: Candidate[] = [];
  for (const step of [1, -1]) {
    let moved = false;
    for (let next = index + step; splits[next] !== undefined; next += step) {
      const candidate = splitCandidate(input, splits[next]!);
      if (gain(candidate, best, goal) <= 0) {
        found.push(candidate);
        break;
      }
      found.push(best);
      best = candidate;
      index = next;
      moved = true;
    }
    // Where one way was better the other is not: it is where the walk came from.
    if (moved) break;
  }
  found.push(best);
  return found;
}

function splitCandidate(input: PartitionInput, prefillUnits: number): Candidate {
  const { predictor, prefill, decode, goal } = input;
  const chunkTokens = chunkWithin(input, prefillUnits);
  const load = prefill(chunkTokens);
  const seconds = { prefill: 0, decode: 0 };
  predictor.together(load, decode, prefillUnits, seconds);
  return candidateOf(goal, {
    mode: 'split',
    prefillUnits,
    chunkTokens,
    prefillSeconds: seconds.prefill,
    decodeSeconds: seconds.decode,
    prefillRate: load.prefillTokens / seconds.prefill,
  });
}

/**
 * The longest chunk that takes no longer than it should; a longer one where that would waste the units it has. A chunk reads
 * all weights, whatever its length: on one of two cores 32 tokens of a 1B model take an eighth longer a token than 512 do, and
 * their reads slow decode down.
 */
function chunkWithin(
  { predictor, prefill, maxChunkTokens, chunkSeconds }: PartitionInput,
  units: number,
): number {
  const seconds = predictor.alone(prefill(maxChunkTokens), units);
  if (seconds <= chunkSeconds) return maxChunkTokens;
  const short = wholeGrains((maxChunkTokens * chunkSeconds) / seconds);
  if (short >= maxChunkTokens) return maxChunkTokens;
  const shortSeconds = predictor.alone(prefill(short), units);
  const enough = seconds / maxChunkTokens / chunkEfficiency;
  if (shortSeconds <= enough * short) return short;
  // A line through both: what a chunk takes whatever its length, and what each token adds.
  const perToken = (seconds - shortSeconds) / (maxChunkTokens - short);
  const fixed = shortSeconds - perToken * short;
  if (enough <= perToken) return short;
  return Math.min(maxChunkTokens, wholeGrains(fixed / (enough - perToken)) + mixedGrain);
}

function wholeGrains(tokens: number): number {
  return Math.max(mixedGrain, Math.floor(tokens / mixedGrain) * mixedGrain);
}

/** One lane: a step that carries all decoding sequences and a chunk of a length that serves the goal best. */
function mixedCandidate(input: PartitionInput): Candidate {
  const { goal, maxChunkTokens } = input;
  const favoursPrefill = goal.favours === 'prefill';
  const at = (grains: number) => mixedAt(input, Math.min(maxChunkTokens, grains * mixedGrain));
  // Both bounds are kept up to, or from, some length: halving the ratio of two lengths around it finds it soon enough.
  let low = 1;
  let high = Math.ceil(maxChunkTokens / mixedGrain);
  let best = at(favoursPrefill ? high : low);
  if (best.isWithin || low === high) return best;
  best = at(favoursPrefill ? low : high);
  while (high - low > 1 && high > 1.1 * low) {
    const middle = Math.min(high - 1, Math.max(low + 1, Math.round(Math.sqrt(low * high))));
    const candidate = at(middle);
    if (candidate.isWithin) best = candidate;
    if (candidate.isWithin === favoursPrefill) low = middle;
    else high = middle;
  }
  return best;
}

function mixedAt(
  { predictor, prefill, decode, units, goal }: PartitionInput,
  chunkTokens: number,
): Candidate {
  const chunk = prefill(chunkTokens);
  const seconds = predictor.alone(StepLoad.sum(chunk, decode), units);
  return candidateOf(goal, {
    mode: 'mixed',
    prefillUnits: units,
    chunkTokens,
    prefillSeconds: seconds,
    decodeSeconds: seconds,
    prefillRate: chunk.prefillTokens / seconds,
  });
}

function candidateOf(goal: Goal, foreseen: Omit<Candidate, 'isWithin'>): Candidate {
  const isWithin =
    goal.favours === 'prefill'
      ? foreseen.decodeSeconds <= goal.maxDecodeSeconds
      : foreseen.prefillRate >= goal.minPrefillRate;
  return { ...foreseen, isWithin };
}

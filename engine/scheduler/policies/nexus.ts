import { type Candidate, findCandidates, type Goal, gain, type Predictor } from '../partition.js';
import type { Decision, Explanation, FinishedStep, LanePolicy, Situation } from '../policy.js';
import type { StepLoad } from '../step-load.js';
import { lonePhase } from './lone-phase.js';

export interface NexusOptions {
  readonly predictor: Predictor;
  /** Learns from each step what the predictor's constants miss; absent: they stay as they are. */
  readonly learner?: Learner;
  /** Units of prefill in each split of the device, rising; empty: one lane only. */
  readonly splits: readonly number[];
  /** How much slower decode may get than alone on the device, while memory is to spare. */
  readonly decodeSlack: number;
  /** How much slower prefill may get than alone on the device, while memory is short. */
  readonly prefillSlack: number;
  /** Service level objectives; a looser one takes the place of its slack. */
  readonly tbtSeconds?: number;
  readonly ttftSeconds?: number;
  /** KV usage from which memory counts as short. */
  readonly kvThreshold: number;
  /** Relative gain that a change must promise. */
  readonly hysteresis: number;
  /** Longest that a chunk should take. */
  readonly chunkSeconds: number;
  /** A prompt that has waited this many times as long as it takes alone is read as if memory were short. */
  readonly patience: number;
}

/** What `correction.ts` does for a cost model. */
export interface Learner {
  observe(step: FinishedStep): void;
  errorRatio(lane: FinishedStep['lane']): number;
}

/** The paper's (Nexus, section on dynamic partitioning), but for hysteresis and patience, which it does not have or publish. */
export const nexusDefaults = {
  decodeSlack: 1.1,
  prefillSlack: 1.3,
  kvThreshold: 0.7,
  hysteresis: 0.05,
  chunkSeconds: 0.25,
  patience: 10,
} as const;

/**
 * Before each prefill step the model foresees what every way to share the device would give the present batch, and the
 * best is taken: a split, or one lane with mixed steps where a split promises no gain.
 */
export class NexusPolicy implements LanePolicy {
  readonly name = 'nexus';
  readonly #options: NexusOptions;
  #present: Candidate | undefined;
  #explanation: Explanation | undefined;

  constructor(options: NexusOptions) {
    this.#options = options;
  }

  /** Of the last decision between the phases; undefined while there was none. */
  get explanation(): Explanation | undefined {
    return this.#explanation;
  }

  get errorRatio(): Record<FinishedStep['lane'], number> | undefined {
    const { learner } = this.#options;
    return learner && { prefill: learner.errorRatio('prefill'), decode: learner.errorRatio('decode') };
  }

  observe(step: FinishedStep): void {
    this.#options.learner?.observe(step);
  }

  decide(situation: Situation): Decision {
    const alone = lonePhase(situation);
    if (alone) return alone;
    // While a chunk is read nothing can change: decode goes on with the rest.
    if (!situation.prefill) return decisionOf(this.#present, situation);
    const decode = situation.decode ?? situation.inFlight.decode!.load;
    this.#present = this.#choose(situation, situation.prefill, decode);
    return decisionOf(this.#present, situation);
  }

  #choose(situation: Situation, prefill: (tokens: number) => StepLoad, decode: StepLoad): Candidate {
    const { predictor, splits, hysteresis, chunkSeconds } = this.#options;
    const maxChunkTokens = Math.min(
      situation.prefillTokens,
      Math.max(1, situation.maxStepTokens - decode.decodeSequences),
    );
    const decodeSeconds = predictor.alone(decode, situation.units);
    const load = prefill(maxChunkTokens);
    const aloneRate = load.prefillTokens / predictor.alone(load, situation.units);
    const input = {
      predictor,
      units: situation.units,
      splits,
      prefill,
      maxChunkTokens,
      // A decode step is little else than a read of the weights; a chunk should be worth several.
      chunkSeconds: Math.max(chunkSeconds, 4 * decodeSeconds),
      decode,
      from: this.#present?.mode === 'split' ? this.#present.prefillUnits : undefined,
    };
    let goal = this.#goal(situation, aloneRate, decodeSeconds);
    let candidates = findCandidates({ ...input, goal });
    const leastRate = this.#leastRate(situation, aloneRate);
    if (goal.favours === 'prefill' && candidates.at(-1)!.prefillRate < leastRate) {
      goal = { favours: 'decode', minPrefillRate: leastRate };
      candidates = findCandidates({ ...input, goal });
    }
    const best = candidates.at(-1)!;
    const present = candidates.find((candidate) => isSame(candidate, this.#present));
    const isKept = present !== undefined && present !== best && gain(best, present, goal) < hysteresis;
    const chosen = isKept ? present : best;
    this.#explanation = {
      nowMs: situation.nowMs,
      favours: goal.favours,
      kvUsage: situation.kvUsage,
      bound: goal.favours === 'prefill' ? goal.maxDecodeSeconds : goal.minPrefillRate,
      candidates,
      chosen,
      isKept,
    };
    return chosen;
  }

  /** `aloneRate`: prompt tokens a second with the whole device. */
  #goal(situation: Situation, aloneRate: number, decodeSeconds: number): Goal {
    const { decodeSlack, prefillSlack, tbtSeconds, ttftSeconds, kvThreshold } = this.#options;
    if (situation.kvUsage < kvThreshold) {
      return { favours: 'prefill', maxDecodeSeconds: Math.max(decodeSlack * decodeSeconds, tbtSeconds ?? 0) };
    }
    const slack = aloneRate / prefillSlack;
    if (ttftSeconds === undefined) return { favours: 'decode', minPrefillRate: slack };
    return { favours: 'decode', minPrefillRate: Math.min(slack, neededRate(situation, ttftSeconds)) };
  }

  /**
   * What prompts get however little decode's bound leaves them, or they would wait without end where that is less than
   * what arrives: more and more, the longer the oldest waits, until what they would get if memory were short. Not where
   * they have an objective of their own: then a late prompt counts no more than a late token, and saving one by the other
   * loses more than it saves (simulated chat: a device carries 12 to 23% less).
   */
  #leastRate({ oldestWaitMs, oldestTokens }: Situation, aloneRate: number): number {
    const { prefillSlack, ttftSeconds, patience } = this.#options;
    if (ttftSeconds !== undefined) return 0;
    const patienceSeconds = (patience * oldestTokens) / aloneRate;
    return (aloneRate / prefillSlack) * Math.min(1, oldestWaitMs / 1000 / patienceSeconds);
  }
}

/** Prompt tokens a second that let the oldest prompt's first token come in time. */
function neededRate({ prefillTokens, oldestWaitMs }: Situation, ttftSeconds: number): number {
  const left = ttftSeconds - oldestWaitMs / 1000;
  return left > 0 ? prefillTokens / left : Number.POSITIVE_INFINITY;
}

function isSame(candidate: Candidate, present: Candidate | undefined): boolean {
  return candidate.mode === present?.mode && candidate.prefillUnits === present.prefillUnits;
}

function decisionOf(candidate: Candidate | undefined, { inFlight }: Situation): Decision {
  if (candidate?.mode === 'split') {
    const { prefillUnits, chunkTokens } = candidate;
    return { mode: 'split', prefillUnits, chunkTokens };
  }
  // Prefill that began alone on the device runs on until its step ends.
  if (!candidate) return { mode: 'split', prefillUnits: inFlight.prefill!.units, chunkTokens: 0 };
  return { mode: 'mixed', chunkTokens: candidate.chunkTokens };
}

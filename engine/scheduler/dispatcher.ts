import type { Lanes } from './lanes.js';
import type { Memory } from './memory.js';
import type { Decision, LanePolicy, Situation } from './policy.js';
import type { StepComposer } from './step-composer.js';
import type { Lane, StepPlan, Work } from './work.js';

export interface DispatcherOptions<W extends Work> {
  readonly memory: Memory<W>;
  readonly lanes: Lanes<W>;
  readonly composer: StepComposer<W>;
  /** Upper bound on the tokens of one step. */
  readonly maxStepTokens: number;
}

/** Who may be in steps that start now, in their order. */
export interface Ready<W> {
  readonly prompts: readonly W[];
  readonly decoding: readonly W[];
}

/** Puts those that are ready on the lanes that are free, as the policy decides. */
export class Dispatcher<W extends Work> {
  constructor(private readonly options: DispatcherOptions<W>) {}

  /** The steps that start. */
  dispatch(policy: LanePolicy, nowMs: number, ready: Ready<W>): StepPlan<W>[] {
    const { prompts, decoding } = ready;
    if (prompts.length === 0 && decoding.length === 0) return [];
    return this.#follow(policy.decide(this.#situation(nowMs, ready)), ready);
  }

  #situation(nowMs: number, { prompts, decoding }: Ready<W>): Situation {
    const { memory, lanes, composer, maxStepTokens } = this.options;
    let prefillTokens = 0;
    let oldest: W | undefined;
    for (const work of prompts) {
      prefillTokens += work.remainingTokens;
      if (!oldest || work.arrivalMs < oldest.arrivalMs) oldest = work;
    }
    return {
      nowMs,
      units: lanes.units,
      decode: decoding.length === 0 ? null : composer.loadOf([], decoding),
      prefill: prompts.length === 0 ? null : (tokens) => composer.loadOfPrompts(prompts, tokens),
      prefillTokens,
      oldestWaitMs: oldest ? nowMs - oldest.arrivalMs : 0,
      oldestTokens: oldest?.tokenCount ?? 0,
      maxStepTokens,
      kvUsage: memory.usage(),
      inFlight: lanes.running,
    };
  }

  #follow(decision: Decision, { prompts, decoding }: Ready<W>): StepPlan<W>[] {
    const plans: StepPlan<W>[] = [];
    const { isIdle, units } = this.options.lanes;
    const start = (lane: Lane, wanted: number, chunkTokens: number, ready: Ready<W>) => {
      const plan = this.#start(lane, wanted, chunkTokens, ready);
      if (plan) plans.push(plan);
    };
    if (decision.mode === 'split') {
      const { prefillUnits, chunkTokens } = decision;
      start('prefill', prefillUnits, chunkTokens, { prompts, decoding: [] });
      start('decode', units - prefillUnits, 0, { prompts: [], decoding });
    } else if (decision.mode === 'mixed') {
      // While a step of the prefill lane ends, decode goes on with what that leaves.
      start('decode', units, decision.chunkTokens, { prompts: isIdle ? prompts : [], decoding });
    } else if (isIdle) {
      if (decision.phase === 'prefill') {
        start('prefill', units, decision.chunkTokens, { prompts, decoding: [] });
      }
      // Also where nothing could be read after all, for lack of memory.
      if (plans.length === 0) start('decode', units, 0, { prompts: [], decoding });
    }
    return plans;
  }

  /** A step on a lane; none if that is not free, or there is no room for anyone. */
  #start(lane: Lane, wanted: number, chunkTokens: number, ready: Ready<W>): StepPlan<W> | undefined {
    const { lanes, composer } = this.options;
    const units = lanes.unitsFor(lane, wanted);
    if (units === 0) return undefined;
    const chunks = composer.compose(ready.prompts, chunkTokens, ready.decoding);
    if (chunks.length === 0) return undefined;
    const plan: StepPlan<W> = { lane, units, chunks };
    for (const { work } of chunks) work.inFlight = true;
    lanes.start(plan, composer.loadOfChunks(chunks));
    return plan;
  }
}

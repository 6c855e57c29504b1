import type { Decision, LanePolicy, Situation } from '../policy.js';

/** One lane: prompts as long as there are any, decode when there are none. What the first vLLM did. */
export class PrefillFirstPolicy implements LanePolicy {
  readonly name = 'prefill-first';

  decide({ prefill, maxStepTokens }: Situation): Decision {
    return { mode: 'turn', phase: prefill ? 'prefill' : 'decode', chunkTokens: maxStepTokens };
  }
}

import { type Step, Want } from './device/device.js';
import type { Look } from './kv/probes.js';
import type { Sights } from './kv/sights.js';
import type { StepPlan } from './scheduler/work.js';
import type { Sequence } from './sequence.js';
import { StepBuilder } from './step-builder.js';

/** Rows of a sequence whose attention a step looks at. */
export interface Probe {
  readonly work: Sequence;
  readonly look: Look;
}

/** A plan as a step of the device, and what it looks at, in the order of the step's results. */
export function plannedStep(
  { chunks }: StepPlan<Sequence>,
  sights: Sights,
): { readonly step: Step; readonly probes: readonly Probe[] } {
  const builder = new StepBuilder();
  const probes: Probe[] = [];
  for (const { work, tokens, isPrompt } of chunks) {
    const { slot, computedTokens } = work;
    if (isPrompt)
      builder.prefill(slot, work.tokens.view(computedTokens, computedTokens + tokens), wantsOf(work, tokens));
    else builder.decode(slot);
    for (const look of sights.looksAmong(work, tokens)) {
      builder.probe(look.run.position - computedTokens, look.run.count);
      probes.push({ work, look });
    }
    const seen = sights.seenBy(work);
    if (seen) builder.see(seen);
  }
  return { step: builder.build(), probes };
}

function wantsOf(work: Sequence, tokens: number): number {
  const isLast = tokens === work.remainingTokens;
  const isScored = work.isScored && work.choice === 0 && work.generatedTokens === 0;
  return (isScored ? Want.promptLogprobs : 0) | (isLast && work.remainingOutput > 0 ? Want.sample : 0);
}

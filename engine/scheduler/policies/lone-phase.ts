import type { Decision, Situation } from '../policy.js';

/** A phase that is alone gets every unit; undefined where both have work, running or ready. */
export function lonePhase({
  decode,
  prefill,
  inFlight,
  units,
  maxStepTokens,
}: Situation): Decision | undefined {
  if (!decode && !inFlight.decode) return { mode: 'split', prefillUnits: units, chunkTokens: maxStepTokens };
  if (!prefill && !inFlight.prefill) return { mode: 'split', prefillUnits: 0, chunkTokens: 0 };
  return undefined;
}

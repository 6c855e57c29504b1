/** More splits to choose from would be looked at for little: decisions are made before each step. */
const mostSplits = 16;

/**
 * Units of prefill in each split of the device that leaves both lanes some, rising: multiples of the smallest group that
 * the device can give away, or of several such groups where there would be many. Empty where there is one group only,
 * and the lanes cannot run at once.
 */
export function splitsOf(units: number, smallestGroup: number): number[] {
  const groups = Math.floor(units / smallestGroup);
  const notch = smallestGroup * Math.ceil(groups / (mostSplits + 1));
  const splits: number[] = [];
  for (let prefill = notch; units - prefill >= smallestGroup; prefill += notch) splits.push(prefill);
  return splits;
}

/** The split nearest to so many units of prefill; undefined if there is none. */
export function nearestSplit(splits: readonly number[], prefillUnits: number): number | undefined {
  let nearest: number | undefined;
  for (const split of splits) {
    if (nearest === undefined || Math.abs(split - prefillUnits) < Math.abs(nearest - prefillUnits))
      nearest = split;
  }
  return nearest;
}

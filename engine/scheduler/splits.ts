/**
 * Units of prefill in each split of the device that leaves both lanes some: multiples of the smallest group that the
 * device can give away. Empty where there is one group only, and the lanes cannot run at once.
 */
export function splitsOf(units: number, smallestGroup: number): number[] {
  const splits: number[] = [];
  for (let prefill = smallestGroup; units - prefill >= smallestGroup; prefill += smallestGroup) {
    splits.push(prefill);
  }
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

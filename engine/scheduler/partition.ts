/**
 * The share of the device that prefill gets. A phase that is alone gets every unit; otherwise each gets half, decode the
 * smaller one, since it waits for memory sooner than for arithmetic.
 */
export function prefillUnits(units: number, prefillHasWork: boolean, decodeHasWork: boolean): number {
  if (!decodeHasWork) return units;
  if (!prefillHasWork) return 0;
  return Math.ceil(units / 2);
}

/** With one unit the lanes cannot run at once; they take turns, so that neither waits for more than one step. */
export function takesTurns(units: number): boolean {
  return units < 2;
}

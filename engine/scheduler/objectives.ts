/**
 * Part of an objective that a policy aims at. Steps vary: foreseen to end on the bound, half of them would pass it, and
 * where none may (TBT) they need more room than where their mean counts (TPOT).
 */
export const aim = { each: 0.6, mean: 0.9 } as const;

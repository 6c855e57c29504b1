/** What something costs and what it is worth, in any units. */
export interface Offer {
  readonly cost: number;
  readonly worth: number;
}

/** The offers that no other beats: none is as cheap and worth more, or cheaper and worth as much. Cheapest first. */
export function paretoFront<T extends Offer>(offers: readonly T[]): T[] {
  const front: T[] = [];
  for (const offer of [...offers].sort((a, b) => a.cost - b.cost || b.worth - a.worth)) {
    if (front.length === 0 || offer.worth > front.at(-1)!.worth) front.push(offer);
  }
  return front;
}

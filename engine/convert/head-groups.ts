/** Group i has the heads [i t, (i + 1) t). */
export function groupsByIndex(heads: number, groups: number): number[][] {
  const size = heads / groups;
  return Array.from({ length: groups }, (_, group) =>
    Array.from({ length: size }, (_, index) => group * size + index),
  );
}

/**
 * Groups of one size such that the sum of their losses is small: pairs of heads that lose least together are joined
 * first, then heads are exchanged between groups for as long as that helps.
 */
export function groupsBySimilarity(
  heads: number,
  groups: number,
  lossOf: (heads: readonly number[]) => number,
): number[][] {
  const size = heads / groups;
  const known = new Map<string, number>();
  const loss = (group: readonly number[]) => {
    const sorted = [...group].sort((a, b) => a - b);
    const key = sorted.join(' ');
    const found = known.get(key) ?? lossOf(sorted);
    known.set(key, found);
    return found;
  };
  const found = exchange(join(heads, groups, size, loss), loss);
  return found.map((group) => group.sort((a, b) => a - b)).sort((a, b) => a[0]! - b[0]!);
}

type Loss = (group: readonly number[]) => number;

function join(heads: number, groups: number, size: number, loss: Loss): number[][] {
  const free = new Set(Array.from({ length: heads }, (_, head) => head));
  return Array.from({ length: groups }, () => {
    const group: number[] = [];
    while (group.length < size) {
      const starts = group.length === 0 && size > 1 ? pairsOf([...free]) : [...free].map((head) => [head]);
      const best = leastOf(starts, (more) => loss([...group, ...more]));
      for (const head of best) {
        group.push(head);
        free.delete(head);
      }
    }
    return group;
  });
}

function exchange(groups: number[][], loss: Loss): number[][] {
  for (let better = true; better; ) {
    better = false;
    for (const [index, one] of groups.entries()) {
      for (const other of groups.slice(index + 1)) {
        for (const i of one.keys()) {
          for (const j of other.keys()) {
            const before = loss(one) + loss(other);
            [one[i], other[j]] = [other[j]!, one[i]!];
            if (loss(one) + loss(other) < before * (1 - 1e-9)) better = true;
            else [one[i], other[j]] = [other[j]!, one[i]!];
          }
        }
      }
    }
  }
  return groups;
}

function pairsOf(heads: readonly number[]): number[][] {
  return heads.flatMap((head, index) => heads.slice(index + 1).map((other) => [head, other]));
}

function leastOf<T>(items: readonly T[], costOf: (item: T) => number): T {
  let [best] = items;
  let least = Number.POSITIVE_INFINITY;
  for (const item of items) {
    const cost = costOf(item);
    if (cost < least) [best, least] = [item, cost];
  }
  return best!;
}

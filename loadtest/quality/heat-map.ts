/** Right and wrong answers by context length and by where in it the fact stood. */
export class HeatMap {
  readonly #cells = new Map<string, { right: number; all: number }>();

  /** @param contexts tokens of the columns @param depths percent of the rows, 0 being the beginning */
  constructor(
    readonly contexts: readonly number[],
    readonly depths: readonly number[],
  ) {}

  add(context: number, depth: number, isRight: boolean): void {
    if (!this.contexts.includes(context) || !this.depths.includes(depth)) {
      throw new RangeError(`no cell for ${context} tokens at depth ${depth}%`);
    }
    const key = keyOf(context, depth);
    const { right, all } = this.#cells.get(key) ?? { right: 0, all: 0 };
    this.#cells.set(key, { right: right + (isRight ? 1 : 0), all: all + 1 });
  }

  /** Part of the answers that were right, from 0 to 1; NaN where there were none. */
  accuracy(where: { context?: number; depth?: number } = {}): number {
    let [right, all] = [0, 0];
    for (const context of where.context === undefined ? this.contexts : [where.context]) {
      for (const depth of where.depth === undefined ? this.depths : [where.depth]) {
        const cell = this.#cells.get(keyOf(context, depth));
        right += cell?.right ?? 0;
        all += cell?.all ?? 0;
      }
    }
    return right / all;
  }
}

function keyOf(context: number, depth: number): string {
  return `${context} ${depth}`;
}

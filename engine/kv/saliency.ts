import { packingStride as stride } from './packing-rule.js';
import type { ProbeRun } from './probes.js';

/** What the probes between two cuts saw. */
interface Window {
  readonly runs: readonly ProbeRun[];
  /** Of each page: its pages may be fewer than there are by now. */
  readonly pages: number;
  /** [layers, pages], in the device's units: whole numbers, so that the order of steps does not matter. */
  readonly sums: Uint32Array;
}

const nothing: Window = { runs: [], pages: 0, sums: new Uint32Array() };

/**
 * How much attention a sequence's pages receive, from its probe rows. The rows count in windows, which are cut at the end of
 * the prompt and from then on every 64 tokens, one page before more is packed, so that there is time to pack it. What is
 * known at a cut comes from the two windows before it: it follows from the sequence alone.
 */
export class Saliency {
  /** Rows before this one are counted. */
  #probed = 0;
  #cut: number;
  #before = nothing;
  #last = nothing;
  #next = nothing;

  constructor(
    private readonly promptTokens: number,
    private readonly layers: number,
    private readonly pageTokens: number,
  ) {
    this.#cut = promptTokens;
  }

  /** As it stands now, for another sequence on the same tokens. */
  copy(): Saliency {
    const copy = new Saliency(this.promptTokens, this.layers, this.pageTokens);
    copy.#probed = this.#probed;
    copy.#cut = this.#cut;
    // Windows are replaced, never changed.
    copy.#before = this.#before;
    copy.#last = this.#last;
    copy.#next = this.#next;
    return copy;
  }

  /** @param sums [layers, pages that the run's last row sees] */
  add(run: ProbeRun, sums: Uint32Array): void {
    if (run.position < this.#probed) return;
    this.#cutUpTo(run.position);
    this.#probed = run.position + run.count;
    this.#next = this.#with(this.#next, run, sums);
  }

  /**
   * At the cut at this position: the attention that each page receives from a row that sees it, on average, by layer. The
   * rows before the cut must be counted, and none behind the next one.
   */
  scoresAt(cut: number): Float64Array[] {
    this.#cutUpTo(cut);
    return this.#scores(Math.ceil(cut / this.pageTokens));
  }

  #scores(pages: number): Float64Array[] {
    const seen = new Float64Array(pages);
    for (const { runs } of [this.#before, this.#last]) {
      for (const run of runs) this.#countRows(run, seen);
    }
    return Array.from({ length: this.layers }, (_, layer) => {
      const scores = new Float64Array(pages);
      for (const window of [this.#before, this.#last]) {
        for (let page = 0; page < Math.min(pages, window.pages); page++)
          scores[page]! += window.sums[layer * window.pages + page]!;
      }
      return scores.map((sum, page) => (sum === 0 ? 0 : sum / seen[page]!));
    });
  }

  /** The same at the last cut before this position, of so many pages. */
  latestScores(position: number, pages: number): Float64Array[] {
    this.#cutUpTo(position);
    return this.#scores(pages);
  }

  #cutUpTo(position: number): void {
    while (this.#cut <= position) {
      this.#before = this.#last;
      this.#last = this.#next;
      this.#next = nothing;
      this.#cut = Math.floor((this.#cut + stride - this.pageTokens) / stride) * stride + this.pageTokens;
    }
  }

  #with({ runs, pages, sums }: Window, run: ProbeRun, more: Uint32Array): Window {
    const morePages = more.length / this.layers;
    const wide = Math.max(pages, morePages);
    const both = new Uint32Array(this.layers * wide);
    for (let layer = 0; layer < this.layers; layer++) {
      both.set(sums.subarray(layer * pages, (layer + 1) * pages), layer * wide);
      for (let page = 0; page < morePages; page++)
        both[layer * wide + page]! += more[layer * morePages + page]!;
    }
    return { runs: [...runs, run], pages: wide, sums: both };
  }

  /** Adds to `seen` the rows that see each page; one that sees a part of it counts for as much. */
  #countRows({ position, count }: ProbeRun, seen: Float64Array): void {
    for (let row = position; row < position + count; row++) {
      for (let page = 0; page < seen.length && page * this.pageTokens <= row; page++) {
        seen[page]! += Math.min(1, (row + 1 - page * this.pageTokens) / this.pageTokens);
      }
    }
  }
}

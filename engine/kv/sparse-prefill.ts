import { byAttention } from './page-classes.js';
import type { ProbeRun } from './probes.js';

/** So many last rows of a stretch say where the next one looks: an eighth of the scores of dense attention, no values. */
const probeTokens = 32;
/** So many last rows of a prompt at least look everywhere. */
const denseTokens = 64;

/** Which of a sequence's first `pages` pages rows attend to. */
export interface SeenPages {
  readonly pages: number;
  /** [layers, pages] */
  readonly isSeen: Uint8Array;
  /** Of these pages' tokens, how many a row sees, as a mean over the layers. */
  readonly tokens: number;
}

/**
 * Which pages the rows of a prompt attend to (the sparse prefill of ZipVL, arXiv 2410.08584, section 3.3, by pages). A row
 * looks at its own stretch, at the one before, at the first page, and of the pages between, layer by layer, at the fewest
 * that, with those, received the part `tau` of the attention of the last rows of the stretch before.
 *
 * So what a row sees follows from the tokens before its stretch alone, whatever comes later and however the prompt is cut
 * into steps, and whoever begins alike may share it. The exception is the end of a prompt, which often holds the
 * question: from the last whole stretch that begins 64 tokens before the end or earlier, rows look everywhere.
 */
export class SparsePrefill {
  readonly #pick: ReturnType<typeof byAttention>;
  readonly stretchPages: number;

  constructor(
    tau: number,
    readonly layers: number,
    readonly pageTokens: number,
    /** A prompt is read in stretches of so many tokens; all rows of one look at the same pages. */
    readonly stretchTokens = 256,
  ) {
    this.#pick = byAttention(tau);
    this.stretchPages = stretchTokens / pageTokens;
  }

  /** The first row that looks everywhere because the prompt ends soon. */
  denseFrom(promptTokens: number): number {
    return Math.max(0, Math.floor((promptTokens - denseTokens) / this.stretchTokens) * this.stretchTokens);
  }

  /** Tokens whose K and V are the same behind every prompt that begins with them: rows of two stretches see all. */
  commonTokens(promptTokens: number): number {
    return Math.max(this.denseFrom(promptTokens), 2 * this.stretchTokens);
  }

  /** The first position behind `position` at which rows begin to look elsewhere. */
  nextAt(promptTokens: number, position: number): number {
    if (position >= this.denseFrom(promptTokens)) return Number.POSITIVE_INFINITY;
    return (Math.floor(position / this.stretchTokens) + 1) * this.stretchTokens;
  }

  /** Of the tokens [begin, end), the rows that say where the next stretch looks: also the first that does not ask. */
  probesAmong(promptTokens: number, begin: number, end: number): ProbeRun[] {
    const runs: ProbeRun[] = [];
    const last = this.denseFrom(promptTokens);
    for (let cut = 2 * this.stretchTokens; cut <= last; cut += this.stretchTokens) {
      const from = Math.max(begin, cut - probeTokens);
      const to = Math.min(end, cut);
      if (from < to) runs.push({ position: from, count: to - from });
    }
    return runs;
  }

  /**
   * How many of the first `tokens` cached ones a prompt may begin with, so that it knows where its first row looks and
   * all probes that it lacks are ahead. `isKnown`: whether it is known where this stretch looks.
   */
  usableTokens(promptTokens: number, tokens: number, isKnown: (stretch: number) => boolean): number {
    const dense = this.denseFrom(promptTokens);
    let usable = tokens;
    while (usable > 0 && usable < dense) {
      const stretch = Math.floor(usable / this.stretchTokens);
      const begin = stretch * this.stretchTokens;
      if (stretch >= 2 && !isKnown(stretch)) usable = begin - probeTokens;
      else if (stretch >= 1 && usable > begin + this.stretchTokens - probeTokens)
        usable = begin + this.stretchTokens - probeTokens;
      else break;
    }
    return usable;
  }

  /** Where a stretch looks, from the sums of the probes before it: [layers, pages before the stretch]. */
  choose(stretch: number, sums: Uint32Array): SeenPages {
    const pages = stretch * this.stretchPages;
    const older = pages - this.stretchPages;
    const isSeen = new Uint8Array(this.layers * older);
    for (let layer = 0; layer < this.layers; layer++) {
      const scores = Float64Array.from(sums.subarray(layer * pages, (layer + 1) * pages));
      isSeen.set(this.#pick(scores, older), layer * older);
      isSeen[layer * older] = 1;
    }
    const seen = isSeen.reduce((sum, flag) => sum + flag, 0);
    return { pages: older, isSeen, tokens: (seen * this.pageTokens) / this.layers };
  }
}

/** Where the rows of one sequence's prompt look, stretch by stretch, as its probes come. */
export class PrefillSight {
  readonly #seen: (SeenPages | undefined)[] = [];
  #stretch = -1;
  #rows = 0;
  #sums = new Uint32Array();

  constructor(
    private readonly rule: SparsePrefill,
    private readonly promptTokens: number,
  ) {}

  /** Where this stretch looks; undefined while that is not known. */
  ofStretch(stretch: number): SeenPages | undefined {
    return this.#seen[stretch];
  }

  /** As another sequence that begins alike has found it. */
  learn(stretch: number, seen: SeenPages): void {
    this.#seen[stretch] = seen;
  }

  /** Where the rows from `position` on look, up to the next stretch; undefined: everywhere. */
  at(position: number): SeenPages | undefined {
    if (position >= this.rule.denseFrom(this.promptTokens)) return undefined;
    const stretch = Math.floor(position / this.rule.stretchTokens);
    if (stretch < 2) return undefined;
    const seen = this.#seen[stretch];
    if (!seen) throw new Error(`no row before position ${position} has said where its stretch looks`);
    return seen;
  }

  /** Tokens before `position` that the row there sees, as a mean over the layers. */
  contextAt(position: number): number {
    const stretch = Math.floor(position / this.rule.stretchTokens);
    const isDense = position >= this.rule.denseFrom(this.promptTokens);
    const seen = isDense ? undefined : this.#seen[stretch];
    return seen ? position - seen.pages * this.rule.pageTokens + seen.tokens : position;
  }

  /** @param sums [layers, pages that the run's last row sees] */
  add({ position, count }: ProbeRun, sums: Uint32Array): void {
    const { layers, stretchPages } = this.rule;
    const stretch = Math.floor(position / this.rule.stretchTokens) + 1;
    const pages = stretch * stretchPages;
    if (stretch !== this.#stretch) {
      this.#stretch = stretch;
      this.#rows = 0;
      this.#sums = new Uint32Array(layers * pages);
    }
    const width = sums.length / layers;
    for (const [at, units] of sums.entries()) {
      this.#sums[Math.floor(at / width) * pages + (at % width)]! += units;
    }
    this.#rows += count;
    if (this.#rows === probeTokens) this.#seen[stretch] = this.rule.choose(stretch, this.#sums);
  }
}

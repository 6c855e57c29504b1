import { type Device, operatorClasses, type Step, type StepResult } from '../../engine/index.js';

/** What the steps did that read a prompt. */
export interface PrefillRecord {
  /** By `operatorClasses`. */
  readonly opSeconds: Readonly<Record<(typeof operatorClasses)[number], number>>;
  /** Tokens that rows attended to, over those before them: 1 where all rows looked everywhere. */
  readonly attended: number;
  /** Of the pages that rows could leave out, the part that they looked at, by layer. Empty where there were none. */
  readonly keptByLayer: readonly number[];
}

/** A device that notes what its prefill lane does; steps of one sequence each. */
export class WatchedDevice {
  readonly device: Device;
  readonly #layers: number;
  #opSeconds = new Float64Array(operatorClasses.length);
  /** Pairs of a row and a token that it may see, and of these, over the layers, those that it does not look at. */
  #pairs = 0;
  #unseen = 0;
  /** Pairs of a row and a page that could be left out, and by layer those that were not. */
  #choices = 0;
  #kept: Float64Array;

  constructor(inner: Device) {
    this.#layers = inner.info.spec.layers;
    this.#kept = new Float64Array(this.#layers);
    this.device = { ...inner, prefill: { run: (step) => this.#run(inner, step) } };
  }

  /** What was noted since the last call, or the start. */
  take(): PrefillRecord {
    const record = {
      opSeconds: Object.fromEntries(
        operatorClasses.map((name, at) => [name, this.#opSeconds[at]!]),
      ) as PrefillRecord['opSeconds'],
      attended: 1 - this.#unseen / this.#layers / this.#pairs,
      keptByLayer: this.#choices === 0 ? [] : Array.from(this.#kept, (kept) => kept / this.#choices),
    };
    this.#opSeconds = new Float64Array(operatorClasses.length);
    [this.#pairs, this.#unseen, this.#choices] = [0, 0, 0];
    this.#kept = new Float64Array(this.#layers);
    return record;
  }

  async #run(inner: Device, step: Step): Promise<StepResult> {
    const [rows] = step.counts;
    const begin = inner.kv.length(step.slots[0]!);
    const result = await inner.prefill.run(step);
    this.#pairs += rows! * begin + (rows! * (rows! + 1)) / 2;
    for (const [at, seconds] of result.opSeconds?.entries() ?? []) this.#opSeconds[at]! += seconds;
    const pages = step.sparse?.pages[1] ?? 0;
    this.#choices += rows! * pages;
    for (let layer = 0; layer < this.#layers && pages > 0; layer += 1) {
      const flags = step.sparse!.isSeen.subarray(layer * pages, (layer + 1) * pages);
      const seen = flags.reduce((sum, flag) => sum + flag, 0);
      this.#kept[layer]! += rows! * seen;
      this.#unseen += rows! * (pages - seen) * inner.kv.pageTokens;
    }
    return result;
  }
}

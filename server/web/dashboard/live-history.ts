import type { SampleFrame } from '../../live/live-protocol.js';
import { type Bins, LatencyWindow } from './latency-window.js';

/** A moment as the charts draw it. Null: not known, which leaves a gap. */
export interface Moment {
  /** Compute units that worked, the mean since the moment before, by what they did. */
  readonly prefillUnits: number | null;
  readonly decodeUnits: number | null;
  readonly mixedUnits: number | null;
  /** Units that decode has where both lanes run. */
  readonly split: number | null;
  /** Tokens a second. */
  readonly written: number | null;
  readonly read: number | null;
  readonly running: number | null;
  readonly waiting: number | null;
  readonly ttftP50: number | null;
  readonly ttftP95: number | null;
  readonly tbtP50: number | null;
  readonly tbtP95: number | null;
  readonly tbtP99: number | null;
  /** Of the prompt tokens looked up, those that the prefix cache had; null where none were. */
  readonly hitShare: number | null;
  readonly kvBf16: number | null;
  readonly kvInt8: number | null;
  readonly kvInt4: number | null;
  readonly kvInt2: number | null;
  readonly kvFar: number | null;
}

export type Column = keyof Moment;

const nothing: Moment = {
  prefillUnits: null,
  decodeUnits: null,
  mixedUnits: null,
  split: null,
  written: null,
  read: null,
  running: null,
  waiting: null,
  ttftP50: null,
  ttftP95: null,
  tbtP50: null,
  tbtP95: null,
  tbtP99: null,
  hitShare: null,
  kvBf16: null,
  kvInt8: null,
  kvInt4: null,
  kvInt2: null,
  kvFar: null,
};

/** What the samples of the last minutes say, as columns over time. Bounded, however long it runs. */
export class LiveHistory {
  /** Seconds, by the clock of whoever pushes. */
  readonly times: number[] = [];
  readonly #columns = new Map<Column, (number | null)[]>(
    (Object.keys(nothing) as Column[]).map((name) => [name, []]),
  );
  #before: SampleFrame | undefined;
  /** Percentiles over time are of a sliding window, the distributions of all that is shown. */
  readonly #recent: Record<'ttft' | 'tbt', LatencyWindow>;
  readonly shown: Record<'ttft' | 'tbt', LatencyWindow>;

  /** `capacity` samples are shown, and a percentile over time is of `recent` ones. */
  constructor(
    bins: Bins,
    private readonly capacity: number,
    recent: number,
  ) {
    const windows = (length: number) => ({
      ttft: new LatencyWindow(bins, length),
      tbt: new LatencyWindow(bins, length),
    });
    this.#recent = windows(recent);
    this.shown = windows(capacity);
  }

  column(name: Column): readonly (number | null)[] {
    return this.#columns.get(name)!;
  }

  last(name: Column): number | null {
    return this.column(name).at(-1) ?? null;
  }

  /** Nothing is known until the next sample, whose totals may have begun anew. */
  interrupt(seconds: number): void {
    this.#before = undefined;
    this.#recent.ttft.clear();
    this.#recent.tbt.clear();
    if (this.times.length > 0) this.#append(seconds, nothing);
  }

  push(sample: SampleFrame, seconds: number): void {
    for (const windows of [this.#recent, this.shown]) {
      windows.ttft.push(sample.ttft);
      windows.tbt.push(sample.tbt);
    }
    const before = this.#before;
    this.#before = sample;
    this.#append(seconds, {
      ...nothing,
      ...this.#latencies(),
      ...stateOf(sample),
      ...ratesOf(before, sample),
    });
  }

  #latencies(): Partial<Moment> {
    const { ttft, tbt } = this.#recent;
    return {
      ttftP50: ttft.percentile(0.5),
      ttftP95: ttft.percentile(0.95),
      tbtP50: tbt.percentile(0.5),
      tbtP95: tbt.percentile(0.95),
      tbtP99: tbt.percentile(0.99),
    };
  }

  #append(seconds: number, moment: Moment): void {
    this.times.push(seconds);
    for (const [name, values] of this.#columns) values.push(moment[name]);
    if (this.times.length <= this.capacity) return;
    this.times.shift();
    for (const values of this.#columns.values()) values.shift();
  }
}

function stateOf({ engine }: SampleFrame): Partial<Moment> {
  if (!engine) return {};
  const { stats } = engine;
  const held = stats.kvHeldBytes;
  return {
    split: stats.laneUnits.decode,
    running: stats.running,
    waiting: stats.waiting,
    kvBf16: held.bf16,
    kvInt8: held.int8,
    kvInt4: held.int4,
    kvInt2: held.int2,
    kvFar: held.far,
  };
}

/** What totals say of the time between two samples. */
function ratesOf(before: SampleFrame | undefined, now: SampleFrame): Partial<Moment> {
  if (!before?.engine || !now.engine) return {};
  const seconds = (now.atMs - before.atMs) / 1000;
  const from = before.engine.stats;
  const to = now.engine.stats;
  // Another engine has taken its place and counts from 0.
  if (seconds <= 0 || to.generatedTokens < from.generatedTokens) return {};
  const units = (phase: 'prefill' | 'decode' | 'mixed'): number =>
    Math.max(0, (to.unitSeconds[phase] - from.unitSeconds[phase]) / seconds);
  const queried = to.cache.queriedTokens - from.cache.queriedTokens;
  return {
    prefillUnits: units('prefill'),
    decodeUnits: units('decode'),
    mixedUnits: units('mixed'),
    written: (to.generatedTokens - from.generatedTokens) / seconds,
    read: (to.promptTokensRead - from.promptTokensRead) / seconds,
    hitShare: queried > 0 ? (to.cache.hitTokens - from.cache.hitTokens) / queried : null,
  };
}

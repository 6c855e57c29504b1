import { LatencyBins } from './latency-bins.js';
import type { RequestRow } from './live-protocol.js';

/** Requests that are remembered after their end, and shown while they run. */
const keptEnded = 50;
const shownRunning = 40;

/** How one request fares. It is told of each token; times are in ms by one clock. */
export class RequestTimes {
  #firstMs: number | undefined;
  #tokens = 0;
  #gaps = 0;
  #gapsMs = 0;
  #maxGapMs = 0;

  constructor(
    readonly number: number,
    readonly kind: string,
    readonly promptTokens: number,
    readonly choices: number,
    readonly beganMs: number,
  ) {}

  /** `gapMs` since the token before it of the same choice; undefined for the first one of a choice. */
  token(nowMs: number, gapMs: number | undefined): void {
    this.#tokens++;
    this.#firstMs ??= nowMs;
    if (gapMs === undefined) return;
    this.#gaps++;
    this.#gapsMs += gapMs;
    this.#maxGapMs = Math.max(this.#maxGapMs, gapMs);
  }

  row(nowMs: number, cachedTokens: number | null, ended?: RequestRow['state']): RequestRow {
    const running = this.#firstMs === undefined ? 'waiting' : 'running';
    return {
      number: this.number,
      kind: this.kind,
      beganMs: this.beganMs,
      promptTokens: this.promptTokens,
      cachedTokens,
      completionTokens: this.#tokens,
      choices: this.choices,
      ttftMs: this.#firstMs === undefined ? null : this.#firstMs - this.beganMs,
      tbtMs: this.#gaps === 0 ? null : this.#gapsMs / this.#gaps,
      maxTbtMs: this.#gaps === 0 ? null : this.#maxGapMs,
      totalMs: nowMs - this.beganMs,
      state: ended ?? running,
    };
  }
}

/** What ran lately and what runs now, and the latencies since somebody last looked; of bounded size. */
export class RecentRequests {
  readonly ttft = new LatencyBins();
  readonly tbt = new LatencyBins();
  readonly #running = new Set<RequestTimes>();
  readonly #ended: { readonly row: RequestRow; readonly serial: number }[] = [];
  #begun = 0;
  #serial = 0;
  #taken = 0;

  /** Times are milliseconds by `now`. */
  constructor(private readonly now: () => number) {}

  begin(id: string, promptTokens: number, choices: number): RequestTimes {
    const [kind = ''] = id.split(/[-_]/, 1);
    const times = new RequestTimes(++this.#begun, kind, promptTokens, choices, this.now());
    this.#running.add(times);
    return times;
  }

  /** A token has come; the first of a choice has no gap before it. */
  token(times: RequestTimes, gapMs: number | undefined): void {
    const now = this.now();
    if (gapMs === undefined) this.ttft.add(now - times.beganMs);
    else this.tbt.add(gapMs);
    times.token(now, gapMs);
  }

  end(times: RequestTimes, state: RequestRow['state'], cachedTokens: number | null): void {
    this.#running.delete(times);
    this.#ended.push({ row: times.row(this.now(), cachedTokens, state), serial: this.#serial++ });
    if (this.#ended.length > keptEnded) this.#ended.shift();
  }

  /** The oldest first. */
  running(): RequestRow[] {
    const now = this.now();
    return [...this.#running].slice(0, shownRunning).map((times) => times.row(now, null));
  }

  /** All that are remembered, the newest first. */
  ended(): RequestRow[] {
    return this.#ended.map(({ row }) => row).reverse();
  }

  /** Those that ended since this was last asked. */
  takeEnded(): RequestRow[] {
    const fresh = this.#ended.filter(({ serial }) => serial >= this.#taken).map(({ row }) => row);
    this.#taken = this.#serial;
    return fresh;
  }
}

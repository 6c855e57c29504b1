import type { Slo } from '../serve/slo.js';
import { Histogram } from './histogram.js';
import type { SimulatedRequest } from './request.js';

/** Counts and distributions of one run, in bounded memory. Times in ms. */
export class Measures {
  readonly ttft = new Histogram();
  readonly tbt = new Histogram();
  readonly tpot = new Histogram();
  readonly e2e = new Histogram();
  arrived = 0;
  finished = 0;
  /** Would not fit into the memory, were they alone. */
  refused = 0;
  attained = 0;
  promptTokens = 0;
  outputTokens = 0;
  /** Of the last request, and of the last token. */
  lastArrivalMs = 0;
  endMs = 0;

  constructor(private readonly slo: Slo) {}

  arrive(nowMs: number): void {
    this.arrived++;
    this.lastArrivalMs = nowMs;
  }

  /** The next token of a request is there. */
  token(request: SimulatedRequest, nowMs: number): void {
    if (Number.isNaN(request.firstTokenMs)) {
      request.firstTokenMs = nowMs;
      this.ttft.add(nowMs - request.arrivalMs);
    } else {
      const gap = nowMs - request.lastTokenMs;
      this.tbt.add(gap);
      if (gap > request.longestGapMs) request.longestGapMs = gap;
    }
    request.lastTokenMs = nowMs;
  }

  end(request: SimulatedRequest): void {
    const { ttft, tbt, tpot, e2e } = this.slo;
    const own = {
      ttft: request.firstTokenMs - request.arrivalMs,
      e2e: request.lastTokenMs - request.arrivalMs,
      tpot:
        request.outputTokens > 1
          ? (request.lastTokenMs - request.firstTokenMs) / (request.outputTokens - 1)
          : 0,
    };
    this.finished++;
    this.promptTokens += request.promptTokens;
    this.outputTokens += request.outputTokens;
    this.e2e.add(own.e2e);
    if (request.outputTokens > 1) this.tpot.add(own.tpot);
    const isAttained =
      own.ttft <= (ttft ?? Number.POSITIVE_INFINITY) &&
      request.longestGapMs <= (tbt ?? Number.POSITIVE_INFINITY) &&
      own.tpot <= (tpot ?? Number.POSITIVE_INFINITY) &&
      own.e2e <= (e2e ?? Number.POSITIVE_INFINITY);
    if (isAttained) this.attained++;
    this.endMs = Math.max(this.endMs, request.lastTokenMs);
  }
}

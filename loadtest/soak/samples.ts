import type { Trace } from '../serve/completion-stream.js';
import { readMetrics } from '../serve/read-metrics.js';
import { gapsOf, ttftOf } from '../serve/slo.js';
import type { Target } from '../serve/target.js';
import { distributionOf } from '../statistics.js';

/** A stretch of the run. Times are ms, and NaN where no stream was read to its end. */
export interface Sample {
  readonly minutes: number;
  readonly residentMb: number;
  readonly heapMb: number;
  readonly openFiles: number;
  readonly requests: number;
  readonly ttftP50: number;
  readonly ttftP99: number;
  readonly tbtP50: number;
  readonly tbtP99: number;
}

/** What a stretch of the run brought, until the next one begins. */
export class Stretch {
  readonly #ttft: number[] = [];
  readonly #tbt: number[] = [];
  #requests = 0;

  addStream(trace: Trace): void {
    this.#ttft.push(...ttftOf(trace));
    this.#tbt.push(...gapsOf(trace));
  }

  addRequest(): void {
    this.#requests++;
  }

  async sample(target: Target, minutes: number): Promise<Sample> {
    const ttft = distributionOf(this.#ttft);
    const tbt = distributionOf(this.#tbt);
    const metrics = await readMetrics(target);
    const metric = (name: string) => metrics.get(name) ?? Number.NaN;
    return {
      minutes,
      residentMb: metric('process_resident_memory_bytes') / 2 ** 20,
      heapMb: metric('nodejs_heap_size_used_bytes') / 2 ** 20,
      openFiles: metric('process_open_fds'),
      requests: this.#requests,
      ttftP50: ttft.p50,
      ttftP99: ttft.p99,
      tbtP50: tbt.p50,
      tbtP99: tbt.p99,
    };
  }
}

import type { FigureRow, Figures } from '../schedulers/figures.js';
import type { LoadResult } from '../serve/load.js';
import { gapsOf, ttftOf } from '../serve/slo.js';
import { distributionOf, mean, median } from '../statistics.js';
import type { KvShares, Look } from './running-watch.js';

const against = 'reference';

export const concurrencyRows: readonly FigureRow[] = [
  { figure: 'peak', title: 'sequences at once, peak', unit: 'sequences', against },
  { figure: 'usual', title: 'sequences at once, median while requests wait', unit: 'sequences', against },
  { figure: 'mean', title: 'sequences at once, mean while requests wait', unit: 'sequences', against },
  { figure: 'exact', title: 'KV memory in exact pages', unit: '%' },
  { figure: 'smaller', title: 'KV memory in smaller pages', unit: '%' },
  { figure: 'scattered', title: 'KV memory that lies scattered', unit: '%' },
  { figure: 'preemptions', title: 'sequences that gave way', unit: 'sequences' },
  { figure: 'dropped', title: 'tokens that were dropped', unit: 'tokens' },
  { figure: 'ttftP50', title: 'TTFT p50', unit: 'ms', against },
  { figure: 'ttftP99', title: 'TTFT p99', unit: 'ms', against },
  { figure: 'tbtP50', title: 'TBT p50', unit: 'ms', against },
  { figure: 'tbtP99', title: 'TBT p99', unit: 'ms', against },
  { figure: 'rate', title: 'generated tokens', unit: 'tok/s', against },
];

/**
 * How many ran while memory bounded that: from the first answer's end on, since till then it is how fast prompts are read, and
 * while requests wait. Throws an Error if a request failed, or if none had to wait.
 */
export function concurrencyFigures({ traces, seconds }: LoadResult, looks: readonly Look[]): Figures {
  const failed = traces.find(({ error, pieceTimes }) => error !== undefined || pieceTimes.length === 0);
  if (failed) throw new Error(`a request failed: ${failed.error ?? 'it brought no text'}`);
  const firstEnd = Math.min(...traces.map(({ endedAt }) => endedAt));
  const full = looks.filter(({ at, waiting }) => at >= firstEnd && waiting > 0);
  const most = Math.max(...looks.map(({ running }) => running));
  if (full.length === 0) {
    throw new Error(
      `all requests had room at once, ${most} at most: give more --clients, or less --kv-memory`,
    );
  }
  const ttft = distributionOf(traces.flatMap(ttftOf));
  const tbt = distributionOf(traces.flatMap(gapsOf));
  const part = (name: keyof KvShares) => 100 * mean(full.map((one) => one.memory[name]));
  const tokens = traces.reduce((sum, { completionTokens }) => sum + completionTokens, 0);
  return {
    peak: most,
    usual: median(full.map(({ running }) => running)),
    mean: mean(full.map(({ running }) => running)),
    exact: part('exact'),
    smaller: part('smaller'),
    scattered: part('scattered'),
    preemptions: looks.at(-1)!.preemptions - looks[0]!.preemptions,
    dropped: looks.at(-1)!.dropped - looks[0]!.dropped,
    ttftP50: ttft.p50,
    ttftP99: ttft.p99,
    tbtP50: tbt.p50,
    tbtP99: tbt.p99,
    rate: tokens / seconds,
  };
}

import type { FigureRow, Figures } from '../schedulers/figures.js';
import type { LoadResult } from '../serve/load.js';
import { gapsOf, ttftOf } from '../serve/slo.js';
import { distributionOf, median } from '../statistics.js';
import type { Look } from './running-watch.js';

const against = 'reference';

export const concurrencyRows: readonly FigureRow[] = [
  { figure: 'peak', title: 'sequences at once, peak', unit: 'sequences', against },
  { figure: 'usual', title: 'sequences at once, median while requests wait', unit: 'sequences', against },
  { figure: 'preemptions', title: 'sequences that gave way', unit: 'sequences' },
  { figure: 'ttftP50', title: 'TTFT p50', unit: 'ms', against },
  { figure: 'ttftP99', title: 'TTFT p99', unit: 'ms', against },
  { figure: 'tbtP50', title: 'TBT p50', unit: 'ms', against },
  { figure: 'tbtP99', title: 'TBT p99', unit: 'ms', against },
  { figure: 'rate', title: 'generated tokens', unit: 'tok/s', against },
];

/** Throws an Error if a request failed, or if none ever had to wait: then memory was not what bounded how many ran. */
export function concurrencyFigures({ traces, seconds }: LoadResult, looks: readonly Look[]): Figures {
  const failed = traces.find(({ error, pieceTimes }) => error !== undefined || pieceTimes.length === 0);
  if (failed) throw new Error(`a request failed: ${failed.error ?? 'it brought no text'}`);
  const full = looks.filter(({ waiting }) => waiting > 0);
  const most = Math.max(...looks.map(({ running }) => running));
  if (full.length === 0) {
    throw new Error(
      `all requests had room at once, ${most} at most: give more --clients, or less --kv-memory`,
    );
  }
  const ttft = distributionOf(traces.flatMap(ttftOf));
  const tbt = distributionOf(traces.flatMap(gapsOf));
  const tokens = traces.reduce((sum, { completionTokens }) => sum + completionTokens, 0);
  return {
    peak: most,
    usual: median(full.map(({ running }) => running)),
    preemptions: looks.at(-1)!.preemptions - looks[0]!.preemptions,
    ttftP50: ttft.p50,
    ttftP99: ttft.p99,
    tbtP50: tbt.p50,
    tbtP99: tbt.p99,
    rate: tokens / seconds,
  };
}

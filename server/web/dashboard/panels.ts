import type { EngineFacts, SampleFrame } from '../../live/live-protocol.js';
import { byId, setText } from '../shared/dom.js';
import { formatBytes, formatCount, formatMs, formatRate, formatShare } from '../shared/format.js';
import { DecisionTable } from './decision-table.js';
import { Distribution } from './distribution.js';
import type { Column, LiveHistory } from './live-history.js';
import { RequestsTable } from './requests-table.js';
import { Tile } from './tiles.js';
import { TimeChart, type TimeChartOptions } from './time-chart.js';

interface Drawn {
  readonly chart: TimeChart;
  readonly columns: readonly Column[];
}

const formatOrNone = (value: number | null, format: (value: number) => string): string =>
  value === null ? '–' : format(value);

/** For an axis of bytes, and one of counts. */
const powersOfTwo = Array.from({ length: 50 }, (_, power) => 2 ** power);
const wholeNumbers = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000];

/** All that the dashboard draws of a history, a sample and the engine it is of. */
export class Panels {
  readonly requests = new RequestsTable(byId('requests'));
  readonly #decision = new DecisionTable(byId('decision'));
  readonly #ttft = new Distribution(byId('ttft-distribution'), 'TTFT', 'prefill');
  readonly #tbt = new Distribution(byId('tbt-distribution'), 'TBT', 'decode');
  readonly #tiles;
  readonly #units: Drawn;
  readonly #kv: Drawn;
  readonly #charts: readonly Drawn[];

  /** `span`: seconds that are shown. */
  constructor(span: number) {
    const tiles = byId('tiles');
    this.#tiles = {
      written: new Tile(tiles, 'Tokens written', 'decode'),
      read: new Tile(tiles, 'Prompt tokens read', 'prefill'),
      ttft: new Tile(tiles, 'TTFT, median', 'prefill'),
      tbt: new Tile(tiles, 'TBT, median', 'decode'),
      running: new Tile(tiles, 'Running', 'running'),
      kv: new Tile(tiles, 'KV memory', 'mixed'),
      hits: new Tile(tiles, 'Prefix cache hits', 'cache'),
    };
    const chart = (
      id: string,
      columns: readonly Column[],
      options: Omit<TimeChartOptions, 'span'>,
    ): Drawn => ({
      chart: new TimeChart(byId(id), { ...options, span }),
      columns,
    });
    this.#units = chart('units', ['decodeUnits', 'mixedUnits', 'prefillUnits', 'split'], {
      series: [
        { name: 'decode', color: 'decode', look: 'area' },
        { name: 'both in one step', color: 'mixed', look: 'area' },
        { name: 'prefill', color: 'prefill', look: 'area' },
        { name: 'split', color: 'ink', dashed: true, stepped: true },
      ],
      format: (value) => value.toFixed(value < 10 && !Number.isInteger(value) ? 1 : 0),
      top: 1,
    });
    this.#kv = chart('kv', ['kvBf16', 'kvInt8', 'kvInt4', 'kvInt2', 'kvFar'], {
      series: [
        { name: 'bf16', color: 'kv-bf16', look: 'area' },
        { name: 'int8', color: 'kv-int8', look: 'area' },
        { name: 'int4', color: 'kv-int4', look: 'area' },
        { name: 'int2', color: 'kv-int2', look: 'area' },
        { name: 'far', color: 'kv-far', look: 'area' },
      ],
      format: formatBytes,
      increments: powersOfTwo,
    });
    this.#charts = [
      this.#units,
      this.#kv,
      chart('tokens', ['written', 'read'], {
        series: [
          { name: 'written', color: 'decode', look: 'filled' },
          { name: 'prompts read (right)', color: 'prefill', right: true },
        ],
        format: formatRate,
        formatRight: formatRate,
      }),
      chart('queue', ['running', 'waiting'], {
        series: [
          { name: 'running', color: 'running', look: 'filled', stepped: true },
          { name: 'waiting', color: 'waiting', look: 'filled', stepped: true },
        ],
        format: formatCount,
        increments: wholeNumbers,
        top: 4,
      }),
      chart('ttft', ['ttftP50', 'ttftP95'], {
        series: [
          { name: 'p50', color: 'prefill' },
          { name: 'p95', color: 'prefill-2' },
        ],
        format: formatMs,
        log: true,
      }),
      chart('tbt', ['tbtP50', 'tbtP95', 'tbtP99'], {
        series: [
          { name: 'p50', color: 'decode' },
          { name: 'p95', color: 'decode-2' },
          { name: 'p99', color: 'decode-3' },
        ],
        format: formatMs,
        log: true,
      }),
    ];
  }

  /** Another engine: its limits. */
  setEngine({ device, kvBytes }: EngineFacts): void {
    this.#units.chart.setTop(device.units);
    this.#kv.chart.setTop(kvBytes);
    setText(byId('units-note'), `${device.units} ${device.kind === 'cuda' ? 'SMs' : 'cores'}`);
  }

  draw(history: LiveHistory, now: number): void {
    for (const { chart, columns } of this.#charts) {
      const values = columns.map((name) => history.column(name));
      chart.draw(history.times, values, now);
    }
    this.#ttft.draw(history.shown.ttft);
    this.#tbt.draw(history.shown.tbt);
  }

  show(history: LiveHistory, sample: SampleFrame, facts: EngineFacts | undefined): void {
    const stats = sample.engine?.stats;
    this.requests.draw(sample.running, sample.ended);
    this.#decision.draw(sample.engine?.scheduler);
    if (!stats || !facts) return;
    const { written, read, ttft, tbt, running, kv, hits } = this.#tiles;
    const rate = (name: Column): string => `${formatOrNone(history.last(name), formatRate)}/s`;
    written.show(rate('written'), `${formatCount(stats.generatedTokens)} in all`, history.column('written'));
    read.show(rate('read'), `${formatCount(stats.promptTokensRead)} in all`, history.column('read'));
    const [ttftP95, tbtP99] = [history.shown.ttft.percentile(0.95), history.shown.tbt.percentile(0.99)];
    ttft.show(
      formatOrNone(history.shown.ttft.percentile(0.5), formatMs),
      `p95 ${formatOrNone(ttftP95, formatMs)}`,
      history.column('ttftP50'),
    );
    tbt.show(
      formatOrNone(history.shown.tbt.percentile(0.5), formatMs),
      `p99 ${formatOrNone(tbtP99, formatMs)}`,
      history.column('tbtP50'),
    );
    running.show(
      formatCount(stats.running),
      `${formatCount(stats.waiting)} waiting`,
      history.column('running'),
    );
    const held = Object.values(stats.kvHeldBytes).reduce((sum, bytes) => sum + bytes, 0);
    const used = history.column('kvBf16').map((_, at) => heldAt(history, at));
    kv.show(formatShare(held / facts.kvBytes), `of ${formatBytes(facts.kvBytes)}`, used);
    const { hitTokens, queriedTokens } = stats.cache;
    hits.show(
      queriedTokens === 0 ? '–' : formatShare(hitTokens / queriedTokens),
      `of ${formatCount(queriedTokens)} tokens`,
      history.column('hitShare'),
    );
    this.#showMemory(stats, held, facts);
  }

  #showMemory(
    stats: NonNullable<SampleFrame['engine']>['stats'],
    held: number,
    { kvBytes }: EngineFacts,
  ): void {
    const facts = [
      `${formatBytes(held)} of ${formatBytes(kvBytes)}`,
      `prefix cache ${formatCount(stats.cache.blocks)} of ${formatCount(stats.kvBlocksTotal)} blocks`,
      `${formatCount(stats.cache.evictedBlocks)} evicted`,
      `${formatBytes(stats.kvSwappedBytes)} in host memory`,
      `${formatCount(stats.preemptions)} gave way`,
    ];
    setText(byId('kv-note'), facts.join(' · '));
  }
}

function heldAt(history: LiveHistory, at: number): number | null {
  const classes = (['kvBf16', 'kvInt8', 'kvInt4', 'kvInt2', 'kvFar'] as const).map(
    (name) => history.column(name)[at] ?? null,
  );
  return classes[0] === null ? null : classes.reduce<number>((sum, bytes) => sum + (bytes ?? 0), 0);
}

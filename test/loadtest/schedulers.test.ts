import { readFileSync } from 'node:fs';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { Rows } from '../../loadtest/rows.js';
import { contenderNames, contendersOf } from '../../loadtest/schedulers/contenders.js';
import {
  addFigures,
  type Figures,
  figuresOf,
  medians,
  mixedFigures,
  mixedRows,
  mixedRowsOf,
  simulatedFigures,
  simulatedRows,
  traceFigures,
  traceRows,
} from '../../loadtest/schedulers/figures.js';
import { inTurns } from '../../loadtest/schedulers/in-turns.js';
import { serveSettings } from '../../loadtest/serve/serve-settings.js';
import { Folder } from '../scripts/support.js';
import { pretendCalibrated } from '../support/calibrated.js';
import { measure } from './bench.js';
import { origin } from './origin.js';
import { benchHere } from './run-here.js';
import { traceOf } from './trace.js';

describe('contenders', () => {
  it('read the shortest prompt first unless they are named after another order', () => {
    const flags = new Map(
      contendersOf(contenderNames, []).map((contender) => [contender.name, contender.flags]),
    );
    expect(flags.get('nexus')).toEqual(['--scheduler', 'nexus', '--prefill-order', 'spf']);
    expect(flags.get('chunked, fcfs')).toEqual(['--scheduler', 'chunked', '--prefill-order', 'fcfs']);
    expect(flags.get('prefill-first')).toEqual(['--scheduler', 'prefill-first', '--prefill-order', 'spf']);
    expect(flags.size).toBe(contenderNames.length);
  });

  it('are compared with prefill-first, and hold nexus once for each slack', () => {
    const contenders = contendersOf(['nexus', 'prefill-first'], [1.1, 2]);
    expect(contenders.map(({ name }) => name)).toEqual([
      'nexus, slack 1.1',
      'nexus, slack 2',
      'prefill-first',
    ]);
    expect(contenders[1]!.flags).toContain('2');
    expect(contenders.filter(({ isReference }) => isReference)).toEqual([contenders[2]]);
  });
});

describe('turns', () => {
  it('take every side once before any of them again', async () => {
    const order: string[] = [];
    const side = (name: string) => ({
      name,
      measure: async () => {
        order.push(name);
        return { turn: order.length };
      },
    });
    const seen: (readonly Figures[] | undefined)[] = [];
    const onTurns = (turns: ReadonlyMap<string, readonly Figures[]>) => seen.push(turns.get('b'));
    await inTurns([side('a'), side('b')], 2, () => {}, onTurns);
    expect(order).toEqual(['a', 'b', 'a', 'b']);
    expect(seen).toEqual([undefined, [{ turn: 2 }], [{ turn: 2 }], [{ turn: 2 }, { turn: 4 }]]);
  });

  it('count with the median of each figure by itself', () => {
    const turns: Figures[] = [
      { a: 1, b: 30 },
      { a: 2, b: 10 },
      { a: 9, b: 20 },
    ];
    expect(medians(turns)).toEqual({ a: 2, b: 20 });
  });
});

describe('figures', () => {
  const times = {
    idleGaps: [10, 10, 10, 10],
    busyGaps: [15, 15],
    aloneTtft: [100, 120],
    besideTtft: [200],
    idleMs: 20,
    busyMs: 30,
  };

  it('compare streams with themselves alone, and prompts with the reference', () => {
    const rows = new Rows(origin);
    addFigures(rows, 'nexus', mixedRows, mixedFigures(times), mixedFigures({ ...times, besideTtft: [160] }));
    const ratio = (title: string) => rows.all.find(({ name }) => name === `nexus: ${title}`)!.ratio;
    expect(ratio('TBT while prompts arrive, p99')).toBe(1.5);
    // 4 tokens in 20 ms alone, 2 in 30 ms beside.
    expect(ratio('tokens of the streams meanwhile')).toBe(0.3333);
    expect(ratio('TTFT beside the streams, p50')).toBe(1.25);
    expect(ratio('TTFT of a prompt alone, p50')).toBeNull();
  });

  it('of several plans on one server are told apart by their names', () => {
    const plan = { streams: 8, shortPrompt: 32, longPrompt: 2048, turnsAlone: 2, phaseSeconds: 1 };
    const plans = [plan, { ...plan, streams: 32 }];
    const figures = Object.assign({}, ...plans.map((one) => figuresOf(one, mixedFigures(times))));
    const rows = new Rows(origin);
    addFigures(rows, 'nexus', mixedRowsOf(plans), { ...figures, prefillError: 1.1 }, figures);
    const ratios = new Map(rows.all.map(({ name, ratio }) => [name, ratio]));
    const name = 'nexus: TBT while prompts arrive, p99, 32 streams, prompts of 2048';
    expect(ratios.get(name)).toBe(1.5);
    expect(ratios.get('nexus: TTFT beside the streams, p50, 8 streams, prompts of 2048')).toBe(1);
    // Of the server and not of a plan.
    expect(ratios.has('nexus: seconds of steps with prompts over foreseen ones')).toBe(true);
    expect(mixedRowsOf([plan])).toEqual(mixedRows);
  });

  it('of a trace count its goodput, and refuse a request that failed', () => {
    const whole = [traceOf([100, 110]), traceOf([900, 910])];
    const load = { traces: whole, seconds: 2, clientCpuShare: 0 };
    expect(traceFigures(load, { ttft: 500 })).toMatchObject({
      ttftP50: 500,
      tbtP99: 10,
      throughput: 1,
      goodput: 0.5,
    });
    const failed = { ...load, traces: [...whole, traceOf([], { error: '429 queue full' })] };
    expect(() => traceFigures(failed, undefined)).toThrow('429 queue full');
  });
});

describe('simulated figures', () => {
  it('are compared with the measured ones, so that the ratio is their error', () => {
    const load = (pieces: readonly number[]) => ({
      traces: [traceOf(pieces)],
      seconds: 2,
      clientCpuShare: 0,
    });
    const slo = { ttft: 150 };
    const figures = {
      ...traceFigures(load([100, 120, 140]), slo),
      ...simulatedFigures(load([80, 110, 140]), slo),
    };
    const rows = new Rows(origin);
    addFigures(rows, 'nexus', simulatedRows(slo), figures, undefined);
    const found = rows.all.map(({ name, value, baseline, ratio }) => ({ name, value, baseline, ratio }));
    expect(found).toContainEqual({
      name: 'nexus: TTFT p50, simulated',
      value: 80,
      baseline: 100,
      ratio: 0.8,
    });
    expect(found).toContainEqual({
      name: 'nexus: TBT p99, simulated',
      value: 30,
      baseline: 20,
      ratio: 1.5,
    });
    expect(found.map(({ name }) => name.replace(/nexus: (.*), simulated/, '$1'))).toEqual(
      traceRows(slo)
        .map(({ title }) => title)
        .filter((title) => !title.includes('foreseen')),
    );
  });
});

describe('tandem bench schedulers', () => {
  afterEach(() => {
    vi.unstubAllEnvs();
  });

  it('loads a server under each policy, with the same flags for all', async () => {
    using folder = new Folder();
    const { names, row } = await measure(
      ...['schedulers', '--policies', 'nexus,prefill-first', '--slack', '3', '--repetitions', '1'],
      ...['--streams', '2', '--long-prompt', '200', '--seconds', '0.3', '--html', folder.at('page.html')],
      ...['--', '--context-length', '512'],
    );
    const streamRows = mixedRows.map(({ title }) => title).filter((title) => !title.includes('foreseen'));
    expect(names.filter((name) => !name.includes('foreseen'))).toEqual(
      ['nexus, slack 3', 'prefill-first'].flatMap((side) => streamRows.map((title) => `${side}: ${title}`)),
    );
    // Only nexus foresees anything.
    expect(names.filter((name) => name.includes('foreseen'))).toEqual([
      'nexus, slack 3: seconds of steps with prompts over foreseen ones',
      'nexus, slack 3: seconds of steps without prompts over foreseen ones',
    ]);
    const reference = row('prefill-first: TTFT beside the streams, p50');
    expect(reference.ratio).toBe(1);
    expect(row('nexus, slack 3: TTFT beside the streams, p50').baseline).toBe(reference.value);
    expect(row('nexus, slack 3: TBT while prompts arrive, p99').baseline).toBe(
      row('nexus, slack 3: TBT of the streams alone, p99').value,
    );
    const page = readFileSync(folder.at('page.html'), 'utf8');
    expect(page.match(/<circle/g)).toHaveLength(2);
    expect(page).toContain('<title>prefill-first: ');
  });

  it('replays a trace under each policy', async () => {
    using folder = new Folder({
      'trace.csv': [
        'TIMESTAMP,ContextTokens,GeneratedTokens',
        '2023-11-16 18:17:03.0,40,3',
        '2023-11-16 18:17:03.1,80,2',
      ].join('\n'),
    });
    const { row } = await measure(
      ...['schedulers', '--policies', 'chunked-fcfs', '--repetitions', '1', '--slo', 'e2e=600s'],
      ...['--trace', folder.at('trace.csv')],
    );
    expect(row('chunked, fcfs: goodput').value).toBe(row('chunked, fcfs: throughput').value);
    expect(row('chunked, fcfs: TTFT p50').baseline).toBeNull();
  });

  it('simulates each replay by what this machine was calibrated to', async () => {
    using folder = new Folder({
      'trace.jsonl': [
        '{"timestamp": 0, "input_length": 700, "output_length": 4, "hash_ids": [1, 2]}',
        '{"timestamp": 400, "input_length": 3000, "output_length": 3, "hash_ids": [1, 3]}',
      ].join('\n'),
    });
    vi.stubEnv('XDG_CACHE_HOME', folder.path);
    const args = ['schedulers', '--policies', 'nexus,chunked-fcfs', '--repetitions', '1', '--simulated'];
    const cores = ['--cores', '1'];
    const trace = ['--trace', folder.at('trace.jsonl'), '--', '--context-length', '1024', ...cores];
    const refused = await benchHere(...args, ...trace);
    expect(refused.stderr).toContain('run "tandem calibrate');
    await pretendCalibrated(serveSettings(undefined, cores).settings);
    const { names, row } = await measure(...args, ...trace);
    for (const side of ['nexus', 'chunked, fcfs']) {
      for (const title of [
        'TTFT p50',
        'TTFT p95',
        'TBT p50',
        'TBT p99',
        'E2E p50',
        'E2E p95',
        'throughput',
      ]) {
        const simulated = row(`${side}: ${title}, simulated`);
        expect(simulated.value).toBeGreaterThan(0);
        expect(simulated.baseline).toBe(row(`${side}: ${title}`).value);
      }
    }
    expect(names.filter((name) => name.endsWith(', simulated'))).toHaveLength(14);
  });

  it('says what it lacks, or would not use', async () => {
    const cases: [string[], string][] = [
      [['--slo', 'ttft=1s'], '--slo does nothing without --trace'],
      [['--simulated'], '--simulated does nothing without --trace'],
      [['--trace', 'x.csv', '--streams', '3'], '--streams does nothing with --trace'],
      [['--trace', '/nowhere.csv'], '/nowhere.csv'],
      [['--html', 'x.html', '--policies', 'nexus'], '--html compares with prefill-first'],
      [['--peer'], '--peer needs MODEL as GGUF too'],
      [['--policies', 'fastest'], '"fastest" is none of nexus'],
    ];
    for (const [args, message] of cases) {
      const { code, stdout, stderr } = await benchHere('schedulers', ...args);
      expect({ code, stdout }, args.join(' ')).toEqual({ code: 1, stdout: '' });
      expect(stderr).toContain(message);
    }
  });
});

import { describe, expect, it } from 'vitest';
import { openTokenizer } from '../../engine/index.js';
import { openBenchDevice } from '../../loadtest/device/open.js';
import { addPrefillFigures, speedUpsOf } from '../../loadtest/prefill/figure-rows.js';
import { keptChart, speedUpChart } from '../../loadtest/prefill/plots.js';
import { promptPerplexities } from '../../loadtest/prefill/prompt-perplexity.js';
import { demoText, readWindows } from '../../loadtest/quality/held-out-text.js';
import { logProbabilities } from '../../loadtest/quality/log-probabilities.js';
import { Perplexity } from '../../loadtest/quality/perplexity.js';
import { teacherForce } from '../../loadtest/quality/teacher-forcing.js';
import { Rows } from '../../loadtest/rows.js';
import { demoFolder } from '../support/demo.js';
import { measure } from './bench.js';
import { origin } from './origin.js';
import { benchHere } from './run-here.js';

describe('tandem bench prefill', () => {
  it('times sparse prefill beside dense, and says what rows look at and what is lost', async () => {
    const { names, row } = await measure(
      ...['prefill', '--lengths', '1024', '--taus', '0.999,0', '--repetitions', '1'],
      ...['--text', demoText, '--windows', '1', '--samples', '1'],
    );
    const dense = row('1024 tokens, dense: prompt');
    expect(dense).toMatchObject({ unit: 'tok/s', baseline: null });
    expect(row('1024 tokens, tau 0: prompt').baseline).toBe(dense.value);
    expect(names).not.toContain('1024 tokens, dense: older pages that rows look at');

    // One stretch of 256 rows has eight pages to leave out, of which all but the first are left out at tau 0.
    expect(row('1024 tokens, tau 0: older pages that rows look at').value).toBe(12.5);
    for (let layer = 0; layer < 6; layer += 1)
      expect(row(`1024 tokens, tau 0: older pages that rows look at, layer ${layer}`).value).toBe(12.5);
    const left = (256 * 7 * 32) / ((1024 * 1025) / 2);
    expect(row('1024 tokens, tau 0: tokens that rows attend to, of those before them').value).toBeCloseTo(
      100 * (1 - left),
      2,
    );
    const kept = row('1024 tokens, tau 0.999: older pages that rows look at').value;
    expect(kept).toBeGreaterThan(12.5);

    const inside = 'perplexity of the text where rows look at less';
    const lost = row(`1024 tokens, tau 0: ${inside}`);
    expect(lost.baseline).toBe(row(`1024 tokens, dense: ${inside}`).value);
    expect(lost.value).not.toBe(lost.baseline);
    expect(row('1024 tokens, tau 0: perplexity of its end').baseline).toBeGreaterThan(1);
    expect(row('1024 tokens, tau 0.999: right answers').unit).toBe('%');
  });

  it.each([
    [['--lengths', '700'], '--lengths 700: all rows of so short a prompt look everywhere'],
    [['--lengths', '4096'], "--lengths 4096: the model's context is 2048 tokens"],
    [['--taus', '1'], 'Expected parts from 0 to below 1'],
    [['--text', 'no-such-file.txt'], 'the text no-such-file.txt cannot be read'],
    [['no-such-folder'], 'no-such-folder'],
  ])('says what is wrong with %j', async (args, message) => {
    const { code, stderr } = await benchHere('prefill', ...args);
    expect(code).toBe(1);
    expect(stderr).toContain(message);
  });
});

describe('perplexity of a prompt', () => {
  it('is, of each range of rows, that of the tokens behind them', async () => {
    const { device } = await openBenchDevice({
      ...{ model: demoFolder, weights: 'int8', kv: 'exact', stepTokens: 64 },
      ...{ sequences: 1, kvTokens: 160 },
    });
    try {
      const texts = readWindows(demoText, await openTokenizer(demoFolder), { tokens: 160, count: 1 });
      const [first, second] = [new Perplexity(), new Perplexity()];
      await teacherForce(
        [device],
        texts,
        ({ position, next, logits: [logits] }) =>
          (position <= 100 ? first : second).add(logProbabilities(logits!), next),
        () => {},
      );
      const found = await promptPerplexities(device, texts, [
        { begin: 0, end: 100 },
        { begin: 100, end: 160 },
      ]);
      expect(first.tokens + second.tokens).toBe(159);
      expect(found[0]! / first.value).toBeCloseTo(1, 2);
      expect(found[1]! / second.value).toBeCloseTo(1, 2);
    } finally {
      await device.close();
    }
  });
});

describe('plots of sparse prefill', () => {
  const opSeconds = { matmul: 1, prefillAttention: 2, decodeAttention: 0, other: 0.5 };
  const rows = new Rows(origin);
  for (const [length, seconds] of [
    [2048, 1],
    [4096, 4],
  ] as const) {
    addPrefillFigures(rows, length, [
      { tau: 1, seconds, attended: 1, keptByLayer: [], opSeconds },
      { tau: 0.9, seconds: seconds / 2, attended: 0.25, keptByLayer: [0.5, 0.1], opSeconds },
    ]);
  }

  it('have the rates over those of dense prefill', () => {
    expect(speedUpsOf(rows.all)).toEqual([
      { length: 2048, tau: 0.9, attended: 25, ratio: 2 },
      { length: 4096, tau: 0.9, attended: 25, ratio: 2 },
    ]);
    expect(speedUpChart(rows.all)!.series.map(({ name, points }) => [name, points])).toEqual([
      [
        '2048 tokens',
        [
          [25, 2],
          [100, 1],
        ],
      ],
      [
        '4096 tokens',
        [
          [25, 2],
          [100, 1],
        ],
      ],
    ]);
    expect(speedUpChart([])).toBeUndefined();
  });

  it('show each layer of the longest prompt', () => {
    const chart = keptChart(rows.all)!;
    expect(chart.title).toContain('4096');
    expect(chart.series).toMatchObject([
      {
        name: 'tau 0.9',
        points: [
          [0, 50],
          [1, 10],
        ],
      },
    ]);
    expect(keptChart([])).toBeUndefined();
  });
});

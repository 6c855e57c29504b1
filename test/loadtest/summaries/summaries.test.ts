import { describe, expect, it } from 'vitest';
import { attend } from '../../../engine/convert/attention.js';
import { type Matrix, matrix, multiply, stack, transposed } from '../../../engine/convert/matrix.js';
import { Rotation } from '../../../engine/convert/rotation.js';
import { PartitionRule } from '../../../engine/kv/partition-rule.js';
import {
  attentionMatching,
  blockMean,
  centroids,
  type Page,
  type PageSummary,
} from '../../../loadtest/summaries/page-summary.js';
import { attendPartitions, type Rest } from '../../../loadtest/summaries/partitioned-attention.js';
import { randomOf } from '../../engine/scheduler/history.js';
import { measure } from '../bench.js';
import { benchHere } from '../run-here.js';

const below = randomOf(3);
const random = (rows: number, cols: number, scale = 1): Matrix =>
  matrix(
    rows,
    cols,
    Float64Array.from({ length: rows * cols }, () => scale * (below(2001) / 1000 - 1)),
  );
const repeated = (row: Matrix, times: number) => stack(Array.from({ length: times }, () => row));

/** Mass and output that each query gets of some keys with biases on their scores. */
function readOf(queries: Matrix, { keys, biases, values }: PageSummary): { mass: number[]; output: Matrix } {
  const weights = multiply(queries, transposed(keys));
  const mass = Array.from({ length: weights.rows }, (_, row) => {
    let sum = 0;
    for (let col = 0; col < weights.cols; col++) {
      const at = row * weights.cols + col;
      weights.data[at] = Math.exp(weights.data[at]! + biases[col]!);
      sum += weights.data[at]!;
    }
    return sum;
  });
  return { mass, output: multiply(weights, values) };
}

const wholeOf = ({ keys, values }: Page): PageSummary => ({
  keys,
  values,
  biases: new Float64Array(keys.rows),
});

function expectSameRead(page: Page, summary: PageSummary, digits: number): void {
  const [own, its] = [readOf(page.queries, wholeOf(page)), readOf(page.queries, summary)];
  for (const [row, mass] of own.mass.entries()) expect(its.mass[row]! / mass).toBeCloseTo(1, digits);
  for (const [at, value] of own.output.data.entries()) expect(its.output.data[at]).toBeCloseTo(value, digits);
}

describe('the summary of a page', () => {
  it('is the page where all keys are one, as its mean', () => {
    const page = { keys: repeated(random(1, 8), 32), values: random(32, 8), queries: random(20, 8) };
    const summary = blockMean(page);
    expect(summary.keys.rows).toBe(1);
    expectSameRead(page, summary, 9);
  });

  it('is the page where keys are of two kinds, as two centroids, and as two pairs by attention matching', () => {
    const keys = stack([repeated(random(1, 8), 20), repeated(random(1, 8), 12)]);
    const page = { keys, values: random(32, 8), queries: random(40, 8) };
    const summary = centroids(2)(page);
    expect([...summary.biases].map((bias) => Math.round(Math.exp(bias))).sort()).toEqual([12, 20]);
    expectSameRead(page, summary, 9);
    const matched = attentionMatching(2)(page);
    expect([...matched.biases].map((bias) => Math.round(Math.exp(bias))).sort()).toEqual([12, 20]);
    // Values are drawn a little to their mean, so that few queries do not make them up.
    expectSameRead(page, matched, 1);
  });

  it('keeps more of the mass by attention matching than by its mean, for the queries that it was made for', () => {
    const page = { keys: random(32, 8, 2), values: random(32, 8), queries: random(60, 8, 2) };
    const miss = (summary: PageSummary) => {
      const whole = readOf(page.queries, wholeOf(page)).mass;
      return readOf(page.queries, summary).mass.reduce(
        (sum, mass, row) => sum + (mass / whole[row]! - 1) ** 2,
        0,
      );
    };
    const missed = [1, 2, 4].map((count) => miss(attentionMatching(count)(page)));
    expect(missed[0]).toBeLessThan(miss(blockMean(page)));
    expect(missed[1]).toBeLessThan(missed[0]!);
    expect(missed[2]).toBeLessThan(missed[1]!);
  });
});

describe('attention to partitions', () => {
  const shape = { heads: 4, kvHeads: 2, headDim: 8 };
  const rotation = new Rotation(
    { inverseFrequencies: [1, 0.3, 0.1, 0.01], attentionFactor: 1 } as unknown as ConstructorParameters<
      typeof Rotation
    >[0],
    600,
  );
  const inputs = random(300, 16);
  const weights = { q: random(32, 16), k: random(16, 16), v: random(16, 16), o: random(16, 32) };
  const read = (rest: Rest, topPages: number) =>
    attendPartitions(inputs, weights, shape, {
      rule: new PartitionRule({ sinkTokens: 32, recentTokens: 64, midTokens: 400, topPages }, 32),
      rotation,
      rest,
    });
  const apart = (one: Matrix, other: Matrix) =>
    Math.max(...one.data.map((value, at) => Math.abs(value - other.data[at]!)));

  it('is full attention while every page is selected', () => {
    const full = attend(inputs, weights, { ...shape, window: 0 }, rotation);
    for (const rest of ['nothing', 'tokens', blockMean] as const)
      expect(apart(read(rest, 8), full)).toBeLessThan(1e-12);
    expect(apart(read('nothing', 2), full)).toBeGreaterThan(0.01);
  });

  it('comes nearer to all tokens with summaries, and is there when each token has its own', () => {
    const tokens = read('tokens', 2);
    const [nothing, few] = [read('nothing', 2), read(centroids(8), 2)].map((one) => apart(one, tokens));
    expect(few).toBeLessThan(nothing!);
    expect(apart(read(wholeOf, 2), tokens)).toBeLessThan(1e-12);
  });
});

describe('tandem bench summaries', () => {
  it('compares what stands in for pages, layer by layer', async () => {
    const { names, row } = await measure(
      'summaries',
      ...[
        '--windows',
        '1',
        '--tokens',
        '224',
        '--sink-tokens',
        '32',
        '--recent-tokens',
        '64',
        '--top-pages',
        '1',
      ],
    );
    expect(names).toHaveLength(8 + 7 * 6);
    expect(row('perplexity, selected pages alone').baseline).toBe(row('perplexity, full attention').value);
    expect(row('error of attention in layer 0, selected pages alone').value).toBeGreaterThan(0);
    expect(row('error of attention in layer 0, and all tokens of the others').ratio).toBeGreaterThan(0);
  });

  it('refuses windows in which every page is selected', async () => {
    const { code, stderr } = await benchHere('summaries', '--tokens', '512');
    expect(code).not.toBe(0);
    expect(stderr).toContain('lower --recent-tokens or --top-pages');
  });
});

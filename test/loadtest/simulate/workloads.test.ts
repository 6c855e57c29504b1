import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { Random } from '../../../loadtest/random.js';
import { gap, syntheticWorkload } from '../../../loadtest/simulate/workloads/synthetic.js';
import { readTrace } from '../../../loadtest/simulate/workloads/trace.js';

const folder = mkdtempSync(path.join(os.tmpdir(), 'tandem-traces-'));
afterAll(() => rmSync(folder, { recursive: true }));

function file(name: string, ...lines: string[]): string {
  const full = path.join(folder, name);
  writeFileSync(full, `${lines.join('\n')}\n`);
  return full;
}

const azure = file(
  'azure.csv',
  'TIMESTAMP,ContextTokens,GeneratedTokens',
  '2023-11-16 23:59:59.5000000,4808,10',
  '2023-11-17 00:00:00.7500000,110,27',
  '2023-11-17 00:00:03.5000000,34,0',
);
const mooncake = file(
  'mooncake.jsonl',
  '{"timestamp": 0, "input_length": 1100, "output_length": 52, "hash_ids": [0, 1, 2]}',
  '{"timestamp": 3000, "input_length": 1300, "output_length": 12, "hash_ids": [0, 1, 7]}',
);
const lengths = file(
  'lengths.csv',
  'num_prefill_tokens,num_decode_tokens,num_total_tokens,pd_ratio',
  '3772,54,3826,69.9',
  '2015,156,2171,12.9',
);

describe('a recorded trace', () => {
  it('is read as Azure writes it, with time that may be stretched', () => {
    const trace = readTrace(azure);
    expect(trace.recordedRate).toBeCloseTo(0.5, 6);
    const twice = [...trace.arrivals(1, 10, new Random(1))];
    expect(twice.map(({ atSeconds }) => atSeconds)).toEqual([
      0,
      expect.closeTo(0.625, 5),
      expect.closeTo(2, 5),
    ]);
    expect(twice.map(({ promptTokens, outputTokens }) => [promptTokens, outputTokens])).toEqual([
      [4808, 10],
      [110, 27],
      [34, 1],
    ]);
  });

  it('is read as Mooncake writes it, with its hashes', () => {
    const [, second] = readTrace(mooncake).arrivals(1 / 3, 10, new Random(1));
    expect(second).toEqual({ atSeconds: 3, promptTokens: 1300, outputTokens: 12, blockHashes: [0, 1, 7] });
  });

  it('gets arrivals of its own where it has lengths alone', () => {
    const trace = readTrace(lengths);
    expect(trace.recordedRate).toBeNull();
    const [first, second] = trace.arrivals(2, 10, new Random(1));
    expect(first!.promptTokens).toBe(3772);
    expect(second!.atSeconds).toBeGreaterThan(first!.atSeconds);
  });

  it('loses its hashes where lengths are scaled: its blocks are others then', () => {
    const [first] = readTrace(mooncake, { lengthScale: 0.1 }).arrivals(1, 1, new Random(1));
    expect(first).toEqual({ atSeconds: 0, promptTokens: 110, outputTokens: 5, blockHashes: [] });
  });

  it.each([
    ['unknown.csv', ['a,b', '1,2'], 'is no trace that is known'],
    [
      'number.csv',
      ['TIMESTAMP,ContextTokens,GeneratedTokens', '2023-11-16 18:17:03,x,1'],
      'number.csv:2: "x" is no number',
    ],
    [
      'time.csv',
      ['TIMESTAMP,ContextTokens,GeneratedTokens', 'yesterday,1,1'],
      'time.csv:2: "yesterday" is no time',
    ],
    ['broken.jsonl', ['{"timestamp": 0, "input_length"'], 'broken.jsonl:1 is no JSON'],
    [
      'negative.jsonl',
      ['{"timestamp": 0, "input_length": -1, "output_length": 1}'],
      'negative.jsonl:1: input_length',
    ],
    ['empty.csv', ['num_prefill_tokens,num_decode_tokens'], 'holds no request'],
  ])('is refused with the line: %s', (name, lines, message) => {
    expect(() => readTrace(file(name, ...lines))).toThrow(message);
  });

  it('is refused by its name where it cannot be read', () => {
    expect(() => readTrace(folder)).toThrow(`${folder} cannot be read: EISDIR`);
  });
});

describe('drawn requests', () => {
  it.each([
    ['ldc', 5905, 180],
    ['arxiv', 3832, 200],
    ['sharegpt', 496, 97],
    ['mixed', 0.6 * 496 + 0.4 * 5905, 0.6 * 97 + 0.4 * 180],
  ])('of %s have the means that are stated', (name, prompt, output) => {
    let promptTokens = 0;
    let outputTokens = 0;
    let end = 0;
    for (const arrival of syntheticWorkload(name).arrivals(4, 20_000, new Random(7))) {
      promptTokens += arrival.promptTokens;
      outputTokens += arrival.outputTokens;
      end = arrival.atSeconds;
    }
    // Lengths are cut off far out, which takes a little of the mean.
    expect(promptTokens / 20_000 / prompt).toBeCloseTo(1, 1);
    expect(outputTokens / 20_000 / output).toBeCloseTo(1, 1);
    expect(20_000 / end / 4).toBeCloseTo(1, 1);
  });

  it('come in bursts of the size that is asked for', () => {
    const random = new Random(3);
    const gaps = Array.from({ length: 40_000 }, () => gap(2, 6, random));
    const mean = gaps.reduce((sum, value) => sum + value, 0) / gaps.length;
    const variance = gaps.reduce((sum, value) => sum + (value - mean) ** 2, 0) / gaps.length;
    expect(mean).toBeCloseTo(0.5, 1);
    expect(variance / mean ** 2 / 6).toBeCloseTo(1, 0);
  });
});

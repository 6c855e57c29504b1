import { describe, expect, it } from 'vitest';
import { Divergence, klDivergence } from '../../../loadtest/quality/divergence.js';
import { HeatMap } from '../../../loadtest/quality/heat-map.js';
import { logProbabilities } from '../../../loadtest/quality/log-probabilities.js';
import { paretoFront } from '../../../loadtest/quality/pareto.js';
import { Perplexity } from '../../../loadtest/quality/perplexity.js';
import { says } from '../../../loadtest/quality/retrieval.js';

const ln = (probabilities: readonly number[]) => Float64Array.from(probabilities, Math.log);

describe('log probabilities of logits', () => {
  it('are those of a softmax, whatever is added to all logits', () => {
    // e^ln 1 : e^ln 2 : e^ln 5 = 1 : 2 : 5
    for (const shift of [0, 700, -700]) {
      const logits = [1, 2, 5].map((weight) => Math.log(weight) + shift);
      const found = Array.from(logProbabilities(logits), Math.exp);
      for (const [token, probability] of [1 / 8, 2 / 8, 5 / 8].entries()) {
        expect(found[token]).toBeCloseTo(probability, 12);
      }
    }
  });

  it('leave the logits as they were', () => {
    const logits = Float32Array.of(1, 2);
    logProbabilities(logits);
    expect([...logits]).toEqual([1, 2]);
  });
});

describe('perplexity', () => {
  it('is the number of choices where all are as likely', () => {
    const perplexity = new Perplexity();
    for (const token of [0, 3, 2]) perplexity.add(ln([0.25, 0.25, 0.25, 0.25]), token);
    expect(perplexity.value).toBeCloseTo(4, 12);
    expect(perplexity.tokens).toBe(3);
  });

  it('is the geometric mean of what each token was unlikely by', () => {
    const perplexity = new Perplexity();
    perplexity.add(ln([0.5, 0.5]), 0);
    perplexity.add(ln([0.125, 0.875]), 0);
    expect(perplexity.value).toBeCloseTo(Math.sqrt(2 * 8), 12);
  });
});

describe('KL divergence', () => {
  it('is the sum of p ln(p / q), in thousandths of a nat', () => {
    const [p, q] = [
      [0.5, 0.25, 0.25],
      [0.25, 0.25, 0.5],
    ];
    // 1/2 ln 2 + 1/4 ln 1 + 1/4 ln 1/2
    expect(klDivergence(ln(p!), ln(q!))).toBeCloseTo((1000 * Math.LN2) / 4, 9);
    expect(klDivergence(ln(q!), ln(p!))).toBeCloseTo((1000 * Math.LN2) / 4, 9);
    expect(klDivergence(ln([0.9, 0.1]), ln([0.5, 0.5]))).toBeCloseTo(
      900 * Math.log(1.8) + 100 * Math.log(0.2),
      9,
    );
  });

  it('is nothing between equals, and takes what p holds impossible for nothing', () => {
    const logits = [3, -200, 0.5, 88];
    expect(klDivergence(logProbabilities(logits), logProbabilities(logits))).toBe(0);
    expect(klDivergence(ln([1, 0]), ln([0.5, 0.5]))).toBeCloseTo(1000 * Math.LN2, 9);
  });
});

describe('divergence from the exact cache', () => {
  const half = ln([0.5, 0.5]);
  const sure = ln([0.75, 0.25]);
  const other = ln([0.25, 0.75]);
  const far = 500 * Math.log(3);

  it('counts places whose likeliest token is the same', () => {
    const divergence = new Divergence();
    divergence.add(1, sure, sure);
    divergence.add(2, sure, other);
    divergence.add(3, other, other);
    divergence.add(4, sure, half);
    expect(divergence.sameToken).toBe(0.75);
  });

  it('has the mean over all places, and by where they are', () => {
    const divergence = new Divergence();
    divergence.add(1, sure, sure);
    divergence.add(8, sure, other);
    divergence.add(9, sure, other);
    divergence.add(16, sure, other);
    divergence.add(40, sure, sure);
    expect(divergence.distribution.mean).toBeCloseTo((3 * far) / 5, 9);
    expect(divergence.distribution.p50).toBeCloseTo(far, 9);
    const stretches = divergence.byPosition(8);
    expect(stretches.map(([end]) => end)).toEqual([8, 16, 40]);
    for (const [index, mean] of [far / 2, far, 0].entries())
      expect(stretches[index]![1]).toBeCloseTo(mean, 9);
  });
});

describe('heat map', () => {
  const map = new HeatMap([128, 256], [0, 50]);
  map.add(128, 0, true);
  map.add(128, 0, false);
  map.add(128, 50, true);
  map.add(256, 50, true);

  it('has the part of right answers of a cell, a row, a column and all', () => {
    expect(map.accuracy({ context: 128, depth: 0 })).toBe(0.5);
    expect(map.accuracy({ context: 128 })).toBeCloseTo(2 / 3, 12);
    expect(map.accuracy({ depth: 50 })).toBe(1);
    expect(map.accuracy()).toBe(0.75);
  });

  it('says nothing of a cell without answers, and refuses one that it does not have', () => {
    expect(map.accuracy({ context: 256, depth: 0 })).toBeNaN();
    expect(() => map.add(512, 0, true)).toThrow('no cell for 512 tokens at depth 0%');
  });
});

describe('an answer', () => {
  it('says a value only as a word of its own', () => {
    expect(says('The pin is 4821.', '4821')).toBe(true);
    expect(says('The pin is 48210.', '4821')).toBe(false);
    expect(says('In OSLO, I think', 'Oslo')).toBe(true);
    expect(says('Osloé', 'Oslo')).toBe(false);
    expect(says('', 'Oslo')).toBe(false);
  });
});

describe('Pareto front', () => {
  it('leaves out what another beats', () => {
    const offers = [
      { name: 'exact', cost: 8, worth: 90 },
      { name: 'worse and larger', cost: 5, worth: 70 },
      { name: 'int8', cost: 4, worth: 89 },
      { name: 'as good and larger', cost: 6, worth: 89 },
      { name: 'int2', cost: 1, worth: 40 },
      { name: 'as small and worse', cost: 1, worth: 30 },
    ];
    expect(paretoFront(offers).map(({ name }) => name)).toEqual(['int2', 'int8', 'exact']);
    expect(paretoFront([])).toEqual([]);
  });
});

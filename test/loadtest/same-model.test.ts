import { describe, expect, it } from 'vitest';
import type { Runner } from '../../loadtest/peer/runner.js';
import { checkSameModel } from '../../loadtest/peer/same-model.js';
import { Random } from '../../loadtest/random.js';

const vocab = 1000;

/** A side whose logits are those of a model, and so much of noise of its own beside them. */
function side(model: number, noise: number, seed: number): Runner {
  const ofModel = new Random(model);
  const all = Array.from({ length: vocab }, () => ofModel.normal());
  const own = new Random(seed);
  const never = () => Promise.reject(new Error('is not asked for'));
  return {
    open: never,
    prefill: never,
    decode: never,
    close: never,
    probe: (_prompt, candidates) => {
      const logits = candidates.map((token) => all[token]! + noise * own.normal());
      return Promise.resolve({ best: candidates[logits.indexOf(Math.max(...logits))]!, logits });
    },
  };
}

describe('the check that both sides of a comparison have the same model', () => {
  it('lets each class of weights differ by what its rounding leaves', async () => {
    for (const [weights, noise] of [
      ['bf16', 0.02],
      ['int8', 0.1],
      ['int4', 0.7],
    ] as const) {
      const agreement = await checkSameModel(side(1, noise, 2), side(1, noise, 3), vocab, weights);
      expect(agreement).toMatchObject({ prompts: 8 });
      expect(agreement.correlation).toBeLessThan(1);
    }
  });

  it('refuses other models, and what is no number', async () => {
    for (const weights of ['bf16', 'int8', 'int4'] as const) {
      for (const other of [side(2, 0.1, 3), side(1, Number.NaN, 3)]) {
        await expect(checkSameModel(side(1, 0.1, 2), other, vocab, weights)).rejects.toThrow(
          `compute different models: with ${weights} weights`,
        );
      }
    }
    // As far apart as 4 bits leave them.
    await expect(checkSameModel(side(1, 0.7, 2), side(1, 0.7, 3), vocab, 'int8')).rejects.toThrow(
      'different models',
    );
  });
});

import { describe, expect, it } from 'vitest';
import { ropeSpec, scaledContextLength } from '../../../engine/model/rope.js';

/*
 * Expected values: the definitions in transformers' modeling_rope_utils.py (`_compute_llama3_parameters`,
 * `_compute_yarn_parameters`) evaluated in Python's float64.
 */
function expectFrequencies(found: readonly number[], expected: Record<number, number>): void {
  for (const [index, value] of Object.entries(expected)) {
    expect(Math.abs(found[Number(index)]! / value - 1)).toBeLessThan(1e-13);
  }
}

describe('rope', () => {
  it('gives plain inverse frequencies', () => {
    const rope = ropeSpec({ rope_type: 'default' }, 50_000, 64, 2048);
    expect(rope.inverseFrequencies).toHaveLength(32);
    expect(rope.attentionFactor).toBe(1);
    expectFrequencies(rope.inverseFrequencies, {
      0: 1,
      1: 0.7131110849119321,
      15: 0.00627130337702138,
      31: 2.80461213170876e-5,
    });
  });

  it('divides all of them with linear scaling', () => {
    const plain = ropeSpec({ rope_type: 'default' }, 10_000, 32, 2048).inverseFrequencies;
    const rope = ropeSpec({ rope_type: 'linear', factor: 4 }, 10_000, 32, 2048);
    expect(rope.inverseFrequencies).toEqual(plain.map((frequency) => frequency / 4));
    expect(scaledContextLength({ rope_type: 'linear', factor: 4 }, 2048)).toBe(8192);
  });

  it('follows Llama 3.1: short waves as they are, long ones stretched, a blend between', () => {
    const parameters = {
      rope_type: 'llama3',
      factor: 8,
      low_freq_factor: 1,
      high_freq_factor: 4,
      original_max_position_embeddings: 8192,
    } as const;
    const rope = ropeSpec(parameters, 500_000, 128, 131_072);
    expect(rope.attentionFactor).toBe(1);
    expectFrequencies(rope.inverseFrequencies, {
      0: 1,
      20: 0.016560440080994446,
      28: 0.0032114459947525913,
      29: 0.002166570763503359,
      30: 0.0013718935677611381,
      32: 0.0005248461609929547,
      34: 0.00017850781276799638,
      35: 9.556212353964683e-5,
      36: 7.78465527393245e-5,
      50: 4.411534674558404e-6,
      63: 3.068925988914511e-7,
    });
    expect(scaledContextLength(parameters, 131_072)).toBe(131_072);
  });

  it('follows YaRN as Qwen2.5 uses it', () => {
    const parameters = { rope_type: 'yarn', factor: 4, original_max_position_embeddings: 32_768 } as const;
    const rope = ropeSpec(parameters, 1e6, 128, 32_768);
    expect(rope.attentionFactor).toBeCloseTo(1.138629436111989, 14);
    expectFrequencies(rope.inverseFrequencies, {
      0: 1,
      10: 0.1154781984689458,
      23: 0.006978305848598663,
      24: 0.005375321490790102,
      30: 0.0010643609812470017,
      35: 0.0002462584069089387,
      39: 6.490394320837028e-5,
      40: 4.445698525097307e-5,
      63: 3.102344401879299e-7,
    });
    expect(scaledContextLength(parameters, 32_768)).toBe(131_072);
  });

  it('takes YaRN with mscale, without rounded borders, and with a factor from the lengths', () => {
    const scaled = ropeSpec(
      {
        rope_type: 'yarn',
        factor: 40,
        original_max_position_embeddings: 4096,
        mscale: 1,
        mscale_all_dim: 0.7,
      },
      10_000,
      64,
      163_840,
    );
    expect(scaled.attentionFactor).toBeCloseTo(1.0879546075066122, 14);
    expectFrequencies(scaled.inverseFrequencies, {
      10: 0.056234132519034905,
      12: 0.026879360111431223,
      16: 0.0055,
      20: 0.0007905694150420945,
      23: 3.33380358040831e-5,
      31: 3.33380358040831e-6,
    });
    const unrounded = ropeSpec(
      { rope_type: 'yarn', original_max_position_embeddings: 64, truncate: false },
      10_000,
      64,
      256,
    );
    expect(unrounded.attentionFactor).toBeCloseTo(1.138629436111989, 14);
    expectFrequencies(unrounded.inverseFrequencies, {
      0: 1,
      3: 0.304035661006686,
      8: 0.02559524589192421,
      12: 0.007905694150420948,
      31: 3.33380358040831e-5,
    });
  });

  it('takes an attention factor that is given', () => {
    const rope = ropeSpec({ rope_type: 'yarn', factor: 4, attention_factor: 0.5 }, 10_000, 64, 2048);
    expect(rope.attentionFactor).toBe(0.5);
  });
});

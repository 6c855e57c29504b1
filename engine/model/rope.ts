import { z } from 'zod';
import type { RopeSpec } from './model-spec.js';

/** Far beyond any use, near enough that no frequency leaves the finite numbers. */
const positive = z.number().min(1e-6).max(1e6);

const positions = z
  .int()
  .min(1)
  .max(1 << 28);

/**
 * RoPE's parameters under the names of transformers' `rope_parameters`. The older `rope_theta` and `rope_scaling` are
 * brought into this form by `config.ts`.
 */
export const RopeParameters = z.discriminatedUnion('rope_type', [
  z.object({ rope_type: z.literal('default') }),
  z.object({ rope_type: z.literal('linear'), factor: positive }),
  z
    .object({
      rope_type: z.literal('llama3'),
      factor: positive,
      low_freq_factor: positive,
      high_freq_factor: positive,
      original_max_position_embeddings: positions,
    })
    .refine((value) => value.high_freq_factor > value.low_freq_factor, {
      message: 'high_freq_factor must be above low_freq_factor',
    }),
  z.object({
    rope_type: z.literal('yarn'),
    factor: positive.nullish(),
    original_max_position_embeddings: positions.nullish(),
    attention_factor: positive.nullish(),
    mscale: z.number().finite().nonnegative().nullish(),
    mscale_all_dim: z.number().finite().nonnegative().nullish(),
    beta_fast: positive.nullish(),
    beta_slow: positive.nullish(),
    truncate: z.boolean().nullish(),
  }),
]);
export type RopeParameters = z.output<typeof RopeParameters>;
type Yarn = Extract<RopeParameters, { rope_type: 'yarn' }>;
type Llama3 = Extract<RopeParameters, { rope_type: 'llama3' }>;

export const ropeTypes = ['default', 'linear', 'llama3', 'yarn'] as const;

/** Inverse frequencies [headDim / 2] and the factor on cos and sin, as transformers' `modeling_rope_utils.py` has them. */
export function ropeSpec(
  parameters: RopeParameters,
  theta: number,
  headDim: number,
  maxPositions: number,
): RopeSpec {
  const plain = Array.from({ length: headDim / 2 }, (_, i) => theta ** ((-2 * i) / headDim));
  switch (parameters.rope_type) {
    case 'default':
      return { inverseFrequencies: plain, attentionFactor: 1 };
    case 'linear':
      return { inverseFrequencies: plain.map((f) => f / parameters.factor), attentionFactor: 1 };
    case 'llama3':
      return { inverseFrequencies: plain.map((f) => llama3Frequency(f, parameters)), attentionFactor: 1 };
    case 'yarn':
      return yarn(plain, parameters, theta, headDim, maxPositions);
  }
}

/**
 * Longest sequence after scaling. `max_position_embeddings` is before scaling with linear and YaRN, where the factor
 * is applied to the length of training, and after it with Llama 3.
 */
export function scaledContextLength(parameters: RopeParameters, maxPositions: number): number {
  if (parameters.rope_type === 'linear') return Math.floor(maxPositions * parameters.factor);
  if (parameters.rope_type === 'yarn') {
    const original = parameters.original_max_position_embeddings ?? maxPositions;
    return Math.floor(original * yarnFactor(parameters, maxPositions));
  }
  return maxPositions;
}

/** Long waves are stretched by the factor, short ones stay, and those between are blended. */
function llama3Frequency(frequency: number, p: Llama3): number {
  const wavelength = (2 * Math.PI) / frequency;
  const original = p.original_max_position_embeddings;
  if (wavelength < original / p.high_freq_factor) return frequency;
  if (wavelength > original / p.low_freq_factor) return frequency / p.factor;
  const smooth = (original / wavelength - p.low_freq_factor) / (p.high_freq_factor - p.low_freq_factor);
  return ((1 - smooth) * frequency) / p.factor + smooth * frequency;
}

function yarnFactor(p: Yarn, maxPositions: number): number {
  return p.factor ?? maxPositions / (p.original_max_position_embeddings ?? maxPositions);
}

/** YaRN (Peng et al. 2023), sections 3.2-3.4. */
function yarn(
  plain: readonly number[],
  p: Yarn,
  theta: number,
  headDim: number,
  maxPositions: number,
): RopeSpec {
  const factor = yarnFactor(p, maxPositions);
  const original = p.original_max_position_embeddings ?? maxPositions;
  // The dimension whose wave turns `rotations` times within the length of training.
  const dimensionOf = (rotations: number) =>
    (headDim * Math.log(original / (rotations * 2 * Math.PI))) / (2 * Math.log(theta));
  let low = dimensionOf(p.beta_fast ?? 32);
  let high = dimensionOf(p.beta_slow ?? 1);
  if (p.truncate ?? true) {
    low = Math.floor(low);
    high = Math.ceil(high);
  }
  low = Math.max(low, 0);
  high = Math.min(high, headDim - 1);
  if (low === high) high += 0.001;
  const inverseFrequencies = plain.map((frequency, i) => {
    const interpolated = Math.min(1, Math.max(0, (i - low) / (high - low)));
    return (frequency / factor) * interpolated + frequency * (1 - interpolated);
  });
  return { inverseFrequencies, attentionFactor: p.attention_factor ?? yarnAttentionFactor(p, factor) };
}

function yarnAttentionFactor(p: Yarn, factor: number): number {
  const scale = (mscale: number) => (factor <= 1 ? 1 : 0.1 * mscale * Math.log(factor) + 1);
  if (p.mscale && p.mscale_all_dim) return scale(p.mscale) / scale(p.mscale_all_dim);
  return scale(1);
}

import { z } from 'zod';
import { invalidModel, quoted } from './model-files.js';
import type { VisionSpec } from './model-spec.js';

/** Of the models that read images, by `model_type`. SmolVLM is Idefics3 under a name of its own. */
export const visionArchitectures = {
  idefics3: 'Idefics3ForConditionalGeneration',
  smolvlm: 'SmolVLMForConditionalGeneration',
} as const;

type VisionFamily = keyof typeof visionArchitectures;

const count = (most: number) => z.int().min(1).max(most);

/** Defaults are those of `Idefics3VisionConfig` in transformers. */
const Tower = z.looseObject({
  model_type: z.string().nullish(),
  hidden_size: count(1 << 16).default(1152),
  intermediate_size: count(1 << 18).default(3072),
  num_hidden_layers: count(1024).default(12),
  num_attention_heads: count(1024).default(16),
  num_channels: z.int().default(3),
  image_size: count(1 << 14).default(224),
  patch_size: count(1 << 10).default(32),
  hidden_act: z.string().default('gelu_pytorch_tanh'),
  layer_norm_eps: z.number().positive().max(1).default(1e-6),
});
type Tower = z.output<typeof Tower>;

const Config = z.looseObject({
  architectures: z.array(z.string()).nullish(),
  image_token_id: z.int().min(0).default(128_257),
  scale_factor: count(64).default(2),
  tie_word_embeddings: z.boolean().nullish(),
  text_config: z.looseObject({
    model_type: z.string().default('llama'),
    tie_word_embeddings: z.boolean().nullish(),
  }),
  vision_config: Tower,
});

/** What the `config.json` of a model that reads images says, its text model as a config of its own. */
export interface VisionConfig {
  readonly family: VisionFamily;
  readonly vision: VisionSpec;
  readonly text: unknown;
}

/** Undefined where the model is of none of these families. */
export function readVisionConfig(file: string, json: unknown): VisionConfig | undefined {
  const type = (json as { model_type?: unknown } | null)?.model_type;
  if (typeof type !== 'string' || !Object.hasOwn(visionArchitectures, type)) return undefined;
  const family = type as VisionFamily;
  const parsed = Config.safeParse(json);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    throw invalidModel(file, `${issue?.path.join('.') || 'value'}: ${issue?.message}`);
  }
  const { architectures, image_token_id, scale_factor, tie_word_embeddings, text_config, vision_config } =
    parsed.data;
  const architecture = architectures?.[0];
  if (architecture !== undefined && architecture !== visionArchitectures[family]) {
    throw invalidModel(
      file,
      `the architecture ${quoted(architecture)} is not supported for the model_type ${quoted(type)}; ` +
        `supported is ${visionArchitectures[family]}`,
    );
  }
  if (text_config.model_type !== 'llama') {
    throw invalidModel(
      file,
      `text_config.model_type ${quoted(text_config.model_type)} is not supported beside images; supported is "llama"`,
    );
  }
  return {
    family,
    vision: visionSpec(file, vision_config, scale_factor, image_token_id),
    text: {
      ...text_config,
      // Some name the class they were trained with, which is Llama's in all that counts.
      architectures: undefined,
      tie_word_embeddings: tie_word_embeddings ?? text_config.tie_word_embeddings,
    },
  };
}

function visionSpec(file: string, tower: Tower, scaleFactor: number, imageTokenId: number): VisionSpec {
  const { hidden_size: hidden, num_attention_heads: heads, image_size: imageSize } = tower;
  const { patch_size: patchSize, num_channels: channels, hidden_act: activation } = tower;
  const refuse = (problem: string) => invalidModel(file, `vision_config: ${problem}`);
  if (tower.model_type != null && !/^(idefics3|smolvlm)(_vision)?$/.test(tower.model_type)) {
    throw refuse(
      `the model_type ${quoted(tower.model_type)} is not supported; supported are idefics3_vision, smolvlm_vision`,
    );
  }
  if (channels !== 3) throw refuse(`num_channels ${channels} is not supported; supported is 3`);
  if (activation !== 'gelu_pytorch_tanh') {
    throw refuse(`hidden_act ${quoted(activation)} is not supported; supported is "gelu_pytorch_tanh"`);
  }
  if (hidden % heads !== 0) {
    throw refuse(`hidden_size ${hidden} is not a multiple of num_attention_heads ${heads}`);
  }
  const patchesPerSide = Math.floor(imageSize / patchSize);
  if (patchesPerSide < 1) {
    throw refuse(`image_size ${imageSize} is less than patch_size ${patchSize}`);
  }
  if (patchesPerSide % scaleFactor !== 0) {
    throw refuse(
      `the ${patchesPerSide} patches of a side (image_size ${imageSize} / patch_size ${patchSize}) are not a multiple ` +
        `of scale_factor ${scaleFactor}`,
    );
  }
  return {
    imageSize,
    patchSize,
    patchesPerSide,
    hidden,
    layers: tower.num_hidden_layers,
    heads,
    ffn: tower.intermediate_size,
    normEps: tower.layer_norm_eps,
    scaleFactor,
    imageTokenId,
    tokensPerTile: (patchesPerSide / scaleFactor) ** 2,
  };
}

import type { ModelShape } from './model-shape.js';
import { tokensPerTile, type VisionShape } from './vision-shape.js';
import type { Vocabulary } from './vocabulary.js';

/** Tiles along a side that published models have tokens for. */
const mostTiles = 6;

export const imageToken = '<image>';
const endOfTurn = '<end_of_utterance>';

/** What Idefics3's processor writes around and between the tiles of an image. */
export const visionTokens: readonly string[] = [
  ...Array.from({ length: mostTiles ** 2 }, (_, i) => {
    return `<row_${Math.floor(i / mostTiles) + 1}_col_${(i % mostTiles) + 1}>`;
  }),
  '<global-img>',
  '<fake_token_around_image>',
  imageToken,
  endOfTurn,
];

/** As SmolVLM's: messages come as lists of parts. */
export const visionChatTemplate =
  "{{ bos_token }}{% for message in messages %}{{ message['role'] | capitalize }}" +
  "{% if message['content'][0]['type'] == 'image' %}{{ ':' }}{% else %}{{ ': ' }}{% endif %}" +
  "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}" +
  `{% elif part['type'] == 'image' %}{{ '${imageToken}' }}{% endif %}{% endfor %}${endOfTurn}\n{% endfor %}` +
  "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}";

/** The `config.json` around a text model's. */
export function visionConfig(
  { tiedEmbeddings }: ModelShape,
  vision: VisionShape,
  { tokens }: Vocabulary,
  text: Record<string, unknown>,
): Record<string, unknown> {
  return {
    architectures: ['Idefics3ForConditionalGeneration'],
    model_type: 'idefics3',
    image_token_id: tokens.indexOf(imageToken),
    scale_factor: vision.scaleFactor,
    tie_word_embeddings: tiedEmbeddings,
    torch_dtype: 'bfloat16',
    text_config: text,
    vision_config: {
      model_type: 'idefics3_vision',
      image_size: vision.imageSize,
      patch_size: vision.patchSize,
      num_channels: 3,
      hidden_size: vision.hidden,
      intermediate_size: vision.ffn,
      num_hidden_layers: vision.layers,
      num_attention_heads: vision.heads,
      hidden_act: 'gelu_pytorch_tanh',
      layer_norm_eps: 1e-6,
    },
  };
}

/** `preprocessor_config.json`: up to 4 x 4 tiles, and the whole image once more. */
export function preprocessorConfig({ imageSize }: VisionShape): Record<string, unknown> {
  return {
    image_processor_type: 'Idefics3ImageProcessor',
    processor_class: 'Idefics3Processor',
    do_convert_rgb: true,
    do_resize: true,
    size: { longest_edge: 4 * imageSize },
    resample: 1,
    do_image_splitting: true,
    max_image_size: { longest_edge: imageSize },
    do_rescale: true,
    rescale_factor: 1 / 255,
    do_normalize: true,
    image_mean: [0.5, 0.5, 0.5],
    image_std: [0.5, 0.5, 0.5],
    do_pad: true,
  };
}

/** `processor_config.json` */
export function processorConfig(vision: VisionShape): Record<string, unknown> {
  return { image_seq_len: tokensPerTile(vision), processor_class: 'Idefics3Processor' };
}

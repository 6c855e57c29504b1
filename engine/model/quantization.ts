import { z } from 'zod';
import { invalidModel, quoted } from './model-files.js';

/** How a checkpoint in fp8 (e4m3) is made: each of its matrices comes with scales beside it. */
export interface Fp8Format {
  /** Rows and columns of the blocks with a scale each, where a matrix has more than one scale a row. */
  readonly block: readonly [rows: number, cols: number];
}

const Block = z.tuple([z.int().min(1).max(65_536), z.int().min(1).max(65_536)]);

/** `quant_method` "fp8": DeepSeek's and Qwen's own, and those of vLLM. */
const Fp8 = z.looseObject({
  quant_method: z.literal('fp8'),
  fmt: z.literal('e4m3').nullish(),
  weight_block_size: Block.nullish(),
});

/** llm-compressor's. */
const CompressedTensors = z.looseObject({
  quant_method: z.literal('compressed-tensors'),
  format: z.enum(['float-quantized', 'naive-quantized']),
  config_groups: z.record(
    z.string(),
    z.looseObject({
      weights: z.looseObject({
        type: z.literal('float'),
        num_bits: z.literal(8),
        block_structure: Block.nullish(),
      }),
    }),
  ),
});

const usualBlock = [128, 128] as const;

/** Of a config's `quantization_config`; undefined where there is none. Refuses all but fp8. */
export function fp8FormatOf(file: string, quantization: unknown): Fp8Format | undefined {
  if (quantization == null) return undefined;
  const fp8 = Fp8.safeParse(quantization);
  if (fp8.success) return { block: fp8.data.weight_block_size ?? usualBlock };
  const compressed = CompressedTensors.safeParse(quantization);
  if (compressed.success) {
    const blocks = Object.values(compressed.data.config_groups).map(
      ({ weights }) => weights.block_structure ?? usualBlock,
    );
    const [block = usualBlock] = blocks;
    if (blocks.every(([rows, cols]) => rows === block[0] && cols === block[1])) return { block };
  }
  const { quant_method: method, format } = quantization as { quant_method?: unknown; format?: unknown };
  throw invalidModel(
    file,
    `the checkpoint is quantized (quantization_config: ${quoted(method)}${format === undefined ? '' : `, ${quoted(format)}`}); ` +
      'supported is fp8 in e4m3, by DeepSeek\'s blocks or compressed-tensors\' "float-quantized". Take that, or the ' +
      'original in bf16, f16 or f32: the server itself packs weights to int8 or int4 at load',
  );
}

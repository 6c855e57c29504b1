import { z } from 'zod';
import { EngineError } from '../errors.js';
import { invalidModel, quoted } from './model-files.js';
import type { ModelSpec, TextFamily } from './model-spec.js';
import { fp8FormatOf } from './quantization.js';
import { RopeParameters, ropeSpec, ropeTypes, scaledContextLength } from './rope.js';
import { readVisionConfig, visionArchitectures } from './vision-config.js';

/** What the families' config classes in transformers assume where a file is silent. */
interface FamilyDefaults {
  readonly architecture: string;
  readonly maxPositions: number;
  /** 'heads': as many KV heads as heads. */
  readonly kvHeads: number | 'heads';
  /** 'hidden': hidden / heads. */
  readonly headDim: number | 'hidden';
  readonly qkNorm: boolean;
}

const families: Readonly<Record<TextFamily, FamilyDefaults>> = {
  llama: {
    architecture: 'LlamaForCausalLM',
    maxPositions: 2048,
    kvHeads: 'heads',
    headDim: 'hidden',
    qkNorm: false,
  },
  mistral: {
    architecture: 'MistralForCausalLM',
    maxPositions: 131_072,
    kvHeads: 8,
    headDim: 'hidden',
    qkNorm: false,
  },
  qwen2: {
    architecture: 'Qwen2ForCausalLM',
    maxPositions: 32_768,
    kvHeads: 'heads',
    headDim: 'hidden',
    qkNorm: false,
  },
  qwen3: {
    architecture: 'Qwen3ForCausalLM',
    maxPositions: 32_768,
    kvHeads: 'heads',
    headDim: 128,
    qkNorm: true,
  },
};

/** Upper bounds far above any model, so that no product of two of them leaves the safe integers. */
const count = (most: number) => z.int().min(1).max(most);

const Config = z.looseObject({
  model_type: z.string(),
  architectures: z.array(z.string()).nullish(),
  hidden_size: count(1 << 18),
  intermediate_size: count(1 << 22),
  num_hidden_layers: count(4096),
  num_attention_heads: count(4096),
  num_key_value_heads: count(4096).nullish(),
  head_dim: count(4096).nullish(),
  vocab_size: count(1 << 24),
  max_position_embeddings: count(1 << 28).nullish(),
  rms_norm_eps: z.number().positive().max(1).nullish(),
  hidden_act: z.string().nullish(),
  tie_word_embeddings: z.boolean().nullish(),
  attention_bias: z.boolean().nullish(),
  mlp_bias: z.boolean().nullish(),
  sliding_window: count(1 << 28).nullish(),
  use_sliding_window: z.boolean().nullish(),
  max_window_layers: z.int().min(0).nullish(),
  layer_types: z.array(z.string()).max(4096).nullish(),
  rope_theta: z.number().positive().finite().nullish(),
  rope_scaling: z.record(z.string(), z.unknown()).nullish(),
  rope_parameters: z.record(z.string(), z.unknown()).nullish(),
  partial_rotary_factor: z.number().nullish(),
  quantization_config: z.unknown().optional(),
});
type Config = z.output<typeof Config>;

/** The `ModelSpec` of a parsed `config.json`; `file` is for messages. */
export function modelSpec(file: string, json: unknown): ModelSpec {
  const found = readVisionConfig(file, json);
  if (!found) return textSpec(file, json);
  const { family, vision, text } = found;
  const spec = textSpec(`${file}: text_config`, text);
  if (vision.imageTokenId >= spec.vocab) {
    throw invalidModel(
      file,
      `image_token_id ${vision.imageTokenId} is outside the vocabulary of ${spec.vocab}`,
    );
  }
  return { ...spec, family, vision };
}

function textSpec(file: string, json: unknown): ModelSpec {
  const family = familyOf(file, json);
  const parsed = Config.safeParse(json);
  if (!parsed.success) throw invalidModel(file, issueText(parsed.error));
  const config = parsed.data;
  const heads = config.num_attention_heads;
  const kvHeads = config.num_key_value_heads ?? kvHeadsByDefault(family, heads);
  if (heads % kvHeads !== 0) {
    throw invalidModel(
      file,
      `num_attention_heads ${heads} is not a multiple of num_key_value_heads ${kvHeads}`,
    );
  }
  const headDim = headDimOf(file, config, family);
  refuseUnsupported(file, config);
  const maxPositions = config.max_position_embeddings ?? families[family].maxPositions;
  const { parameters, theta } = ropeParameters(file, config);
  const contextLength = scaledContextLength(parameters, maxPositions);
  if (contextLength < 1 || contextLength > 2 ** 31) {
    throw invalidModel(
      file,
      `RoPE scaling by ${quoted(parameters)} gives a context of ${contextLength} tokens`,
    );
  }
  // Qwen2's q, k, v always have biases and its o never has; the others have all four or none by `attention_bias`.
  const hasBiasOption = family === 'llama' || family === 'qwen3';
  const biased = hasBiasOption && (config.attention_bias ?? false);
  return {
    family,
    layers: config.num_hidden_layers,
    hidden: config.hidden_size,
    heads,
    kvHeads,
    headDim,
    ffn: config.intermediate_size,
    vocab: config.vocab_size,
    contextLength,
    normEps: config.rms_norm_eps ?? 1e-6,
    rope: ropeSpec(parameters, theta, headDim, maxPositions),
    attentionBias: family === 'qwen2' || biased,
    outputBias: biased,
    mlpBias: family === 'llama' && (config.mlp_bias ?? false),
    qkNorm: families[family].qkNorm,
    tiedEmbeddings: config.tie_word_embeddings ?? false,
    slidingWindow: slidingWindows(file, config, family),
  };
}

function familyOf(file: string, json: unknown): TextFamily {
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    throw invalidModel(file, 'expected a JSON object');
  }
  const { model_type: type, architectures } = json as { model_type?: unknown; architectures?: unknown };
  const architecture = Array.isArray(architectures) ? (architectures[0] as unknown) : undefined;
  const supported = [
    ...Object.values(families).map((family) => family.architecture),
    ...Object.values(visionArchitectures),
  ];
  if (typeof type !== 'string' || !Object.hasOwn(families, type)) {
    throw invalidModel(
      file,
      `the architecture ${quoted(architecture ?? type)} (model_type ${quoted(type)}) is not supported; ` +
        `supported are ${supported.join(', ')}`,
    );
  }
  const family = type as TextFamily;
  if (architecture !== undefined && architecture !== families[family].architecture) {
    throw invalidModel(
      file,
      `the architecture ${quoted(architecture)} is not supported; supported are ${supported.join(', ')}`,
    );
  }
  return family;
}

function issueText(error: z.ZodError): string {
  return error.issues
    .slice(0, 5)
    .map((issue) => `${issue.path.join('.') || 'value'}: ${issue.message}`)
    .join('; ');
}

function kvHeadsByDefault(family: TextFamily, heads: number): number {
  const value = families[family].kvHeads;
  return value === 'heads' ? heads : value;
}

function headDimOf(file: string, config: Config, family: TextFamily): number {
  const byDefault = families[family].headDim;
  const quotient = config.hidden_size / config.num_attention_heads;
  const headDim = config.head_dim ?? (byDefault === 'hidden' ? quotient : byDefault);
  if (!Number.isInteger(headDim)) {
    throw invalidModel(
      file,
      `hidden_size ${config.hidden_size} is not a multiple of num_attention_heads ${config.num_attention_heads}, ` +
        'and there is no head_dim',
    );
  }
  if (headDim % 2 !== 0) throw invalidModel(file, `head_dim ${headDim} is odd; RoPE turns pairs`);
  return headDim;
}

function refuseUnsupported(file: string, config: Config): void {
  const activation = config.hidden_act ?? 'silu';
  if (activation !== 'silu' && activation !== 'swish') {
    throw invalidModel(file, `hidden_act ${quoted(activation)} is not supported; supported is "silu"`);
  }
  fp8FormatOf(file, config.quantization_config);
  if ((config.partial_rotary_factor ?? 1) !== 1) {
    throw invalidModel(file, `partial_rotary_factor ${config.partial_rotary_factor} is not supported`);
  }
}

/** Brings the older `rope_theta` + `rope_scaling` and the newer `rope_parameters` into one form. */
function ropeParameters(file: string, config: Config): { parameters: RopeParameters; theta: number } {
  const raw = config.rope_parameters ?? config.rope_scaling ?? {};
  const type = raw.rope_type ?? raw.type ?? 'default';
  const where = config.rope_parameters ? 'rope_parameters' : 'rope_scaling';
  if (!(ropeTypes as readonly unknown[]).includes(type)) {
    const hint =
      type === 'dynamic' ? '; without it the model runs unscaled up to max_position_embeddings' : '';
    throw invalidModel(
      file,
      `${where}: the RoPE type ${quoted(type)} is not supported; supported are ${ropeTypes.join(', ')}${hint}`,
    );
  }
  const parsed = RopeParameters.safeParse({ ...raw, rope_type: type });
  if (!parsed.success) throw invalidModel(file, `${where}.${issueText(parsed.error)}`);
  if (((raw.partial_rotary_factor as number | undefined) ?? 1) !== 1) {
    throw invalidModel(
      file,
      `${where}.partial_rotary_factor ${quoted(raw.partial_rotary_factor)} is not supported`,
    );
  }
  const theta = raw.rope_theta ?? config.rope_theta ?? 10_000;
  if (typeof theta !== 'number' || !(theta > 1) || !Number.isFinite(theta)) {
    throw invalidModel(file, `rope_theta ${quoted(theta)} is not a number above 1`);
  }
  return { parameters: parsed.data, theta };
}

/** [layers]; see `ModelSpec.slidingWindow`. */
function slidingWindows(file: string, config: Config, family: TextFamily): number[] {
  const layers = config.num_hidden_layers;
  const types = config.layer_types ?? undefined;
  if (types && types.length !== layers) {
    throw invalidModel(file, `layer_types has ${types.length} entries for ${layers} layers`);
  }
  const unknown = types?.find((type) => type !== 'full_attention' && type !== 'sliding_attention');
  if (unknown !== undefined) {
    throw invalidModel(
      file,
      `layer_types: ${quoted(unknown)} is not supported; supported are full_attention, sliding_attention`,
    );
  }
  const window = windowOf(config, family);
  return Array.from({ length: layers }, (_, layer) => {
    if (types) return types[layer] === 'sliding_attention' ? window : 0;
    return layer >= firstWindowLayer(config, family) ? window : 0;
  });
}

function windowOf(config: Config, family: TextFamily): number {
  // Absent means the config class's default; null means none.
  const declared = config.sliding_window === undefined ? 4096 : (config.sliding_window ?? 0);
  switch (family) {
    case 'llama':
      return 0;
    case 'mistral':
      return declared;
    case 'qwen2':
    case 'qwen3':
      return config.use_sliding_window ? declared : 0;
  }
}

function firstWindowLayer(config: Config, family: TextFamily): number {
  return family === 'mistral' ? 0 : (config.max_window_layers ?? 28);
}

/** `eos_token_id` of `config.json` or `generation_config.json`: a number, a list, or nothing. */
export function eosTokenIds(file: string, value: unknown): number[] | undefined {
  if (value === undefined || value === null) return undefined;
  const list: unknown[] = Array.isArray(value) ? value : [value];
  if (list.length > 1000 || !list.every((id) => Number.isSafeInteger(id) && (id as number) >= 0)) {
    throw new EngineError(
      'model_invalid',
      `${file}: eos_token_id: expected a token id or a list of them, found ${quoted(value)}`,
    );
  }
  return [...new Set(list as number[])];
}

import { describe, expect, it } from 'vitest';
import { modelSpec } from '../../../engine/model/config.js';
import { refusal, tinyConfig } from './model-folder.js';

const spec = (config: object) => modelSpec('config.json', config);

const llama31 = {
  architectures: ['LlamaForCausalLM'],
  attention_bias: false,
  hidden_act: 'silu',
  hidden_size: 4096,
  intermediate_size: 14336,
  max_position_embeddings: 131072,
  mlp_bias: false,
  model_type: 'llama',
  num_attention_heads: 32,
  num_hidden_layers: 32,
  num_key_value_heads: 8,
  rms_norm_eps: 1e-5,
  rope_scaling: {
    factor: 8,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 8192,
    rope_type: 'llama3',
  },
  rope_theta: 500000,
  tie_word_embeddings: false,
  vocab_size: 128256,
};

const mistral = {
  architectures: ['MistralForCausalLM'],
  hidden_size: 4096,
  intermediate_size: 14336,
  max_position_embeddings: 32768,
  model_type: 'mistral',
  num_attention_heads: 32,
  num_hidden_layers: 32,
  num_key_value_heads: 8,
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  sliding_window: 4096,
  vocab_size: 32000,
};

const smolVlm = {
  architectures: ['Idefics3ForConditionalGeneration'],
  model_type: 'idefics3',
  image_token_id: 49190,
  scale_factor: 4,
  tie_word_embeddings: false,
  text_config: {
    architectures: ['VLlama3ForCausalLM'],
    model_type: 'llama',
    head_dim: 64,
    hidden_size: 576,
    intermediate_size: 1536,
    max_position_embeddings: 8192,
    num_attention_heads: 9,
    num_hidden_layers: 30,
    num_key_value_heads: 3,
    rms_norm_eps: 1e-5,
    rope_theta: 100000,
    vocab_size: 49280,
  },
  vision_config: {
    model_type: 'idefics3_vision',
    hidden_size: 768,
    image_size: 512,
    num_attention_heads: 12,
    patch_size: 16,
  },
};

const qwen25 = {
  architectures: ['Qwen2ForCausalLM'],
  hidden_size: 896,
  intermediate_size: 4864,
  max_position_embeddings: 32768,
  max_window_layers: 21,
  model_type: 'qwen2',
  num_attention_heads: 14,
  num_hidden_layers: 24,
  num_key_value_heads: 2,
  rms_norm_eps: 1e-6,
  rope_theta: 1000000,
  sliding_window: 32768,
  tie_word_embeddings: true,
  use_sliding_window: false,
  vocab_size: 151936,
};

const qwen3 = {
  architectures: ['Qwen3ForCausalLM'],
  attention_bias: false,
  head_dim: 128,
  hidden_size: 1024,
  intermediate_size: 3072,
  max_position_embeddings: 40960,
  model_type: 'qwen3',
  num_attention_heads: 16,
  num_hidden_layers: 28,
  num_key_value_heads: 8,
  rms_norm_eps: 1e-6,
  rope_scaling: null,
  rope_theta: 1000000,
  tie_word_embeddings: true,
  use_sliding_window: false,
  vocab_size: 151936,
};

describe('config', () => {
  it('describes Llama 3.1', () => {
    const found = spec(llama31);
    expect(found).toMatchObject({
      family: 'llama',
      layers: 32,
      hidden: 4096,
      heads: 32,
      kvHeads: 8,
      headDim: 128,
      ffn: 14336,
      vocab: 128256,
      contextLength: 131072,
      normEps: 1e-5,
      attentionBias: false,
      outputBias: false,
      mlpBias: false,
      qkNorm: false,
      tiedEmbeddings: false,
    });
    expect(found.slidingWindow).toEqual(new Array(32).fill(0));
    expect(found.rope.inverseFrequencies[63]).toBeCloseTo(3.068925988914511e-7, 20);
  });

  it("takes Llama 2's silence for the class's defaults", () => {
    const { num_key_value_heads, rope_theta, max_position_embeddings, rms_norm_eps, ...silent } = {
      ...tinyConfig,
      tie_word_embeddings: undefined,
    };
    expect(spec(JSON.parse(JSON.stringify(silent)))).toMatchObject({
      kvHeads: 2,
      headDim: 4,
      contextLength: 2048,
      normEps: 1e-6,
      tiedEmbeddings: false,
      rope: { inverseFrequencies: [1, 0.01], attentionFactor: 1 },
    });
  });

  it('gives Llama biases where the config asks for them', () => {
    expect(spec({ ...tinyConfig, attention_bias: true, mlp_bias: true })).toMatchObject({
      attentionBias: true,
      outputBias: true,
      mlpBias: true,
    });
  });

  it('describes Mistral with its window, with none, and with the default', () => {
    expect(spec(mistral)).toMatchObject({ family: 'mistral', kvHeads: 8, contextLength: 32768 });
    expect(spec(mistral).slidingWindow).toEqual(new Array(32).fill(4096));
    expect(spec({ ...mistral, sliding_window: null }).slidingWindow).toEqual(new Array(32).fill(0));
    const { sliding_window, ...silent } = mistral;
    expect(spec(silent).slidingWindow).toEqual(new Array(32).fill(4096));
  });

  it('keeps head_dim apart from hidden / heads', () => {
    expect(spec({ ...mistral, head_dim: 160 })).toMatchObject({ hidden: 4096, heads: 32, headDim: 160 });
  });

  it('describes Qwen2.5: biases on q, k, v alone', () => {
    const found = spec(qwen25);
    expect(found).toMatchObject({
      family: 'qwen2',
      headDim: 64,
      attentionBias: true,
      outputBias: false,
      tiedEmbeddings: true,
      qkNorm: false,
    });
    expect(found.slidingWindow).toEqual(new Array(24).fill(0));
  });

  it('gives Qwen2 a window from max_window_layers on, if it uses one', () => {
    const { slidingWindow } = spec({ ...qwen25, use_sliding_window: true, sliding_window: 1024 });
    expect(slidingWindow).toEqual([...new Array(21).fill(0), ...new Array(3).fill(1024)]);
  });

  it('goes by layer_types where they are given', () => {
    const layer_types = Array.from({ length: 24 }, (_, i) =>
      i % 2 ? 'sliding_attention' : 'full_attention',
    );
    const windows = { layer_types, use_sliding_window: true, sliding_window: 512 };
    expect(spec({ ...qwen25, ...windows }).slidingWindow.slice(0, 4)).toEqual([0, 512, 0, 512]);
  });

  it('describes Qwen3: QK norm, head_dim 128 by default', () => {
    const { head_dim, ...silent } = qwen3;
    for (const config of [qwen3, silent]) {
      expect(spec(config)).toMatchObject({
        family: 'qwen3',
        heads: 16,
        headDim: 128,
        qkNorm: true,
        attentionBias: false,
        outputBias: false,
        contextLength: 40960,
      });
    }
    expect(spec({ ...qwen3, attention_bias: true })).toMatchObject({ attentionBias: true, outputBias: true });
  });

  it("stretches the context by YaRN's factor", () => {
    const rope_scaling = { type: 'yarn', factor: 4, original_max_position_embeddings: 32768 };
    const found = spec({ ...qwen25, rope_scaling });
    expect(found.contextLength).toBe(131072);
    expect(found.rope.attentionFactor).toBeCloseTo(1.138629436111989, 14);
  });

  it('reads the older and the newer form of RoPE parameters alike', () => {
    const { rope_theta, rope_scaling, ...rest } = llama31;
    const newer = spec({ ...rest, rope_parameters: { ...rope_scaling, rope_theta } });
    expect(newer).toEqual(spec(llama31));
  });

  it('describes SmolVLM: its text model as a Llama, and its vision tower', () => {
    const described = spec(smolVlm);
    expect(described).toMatchObject({
      family: 'idefics3',
      layers: 30,
      hidden: 576,
      heads: 9,
      kvHeads: 3,
      headDim: 64,
      vocab: 49280,
      contextLength: 8192,
      tiedEmbeddings: false,
    });
    // What the file does not say is the class's default.
    expect(described.vision).toEqual({
      imageSize: 512,
      patchSize: 16,
      patchesPerSide: 32,
      hidden: 768,
      layers: 12,
      heads: 12,
      ffn: 3072,
      normEps: 1e-6,
      scaleFactor: 4,
      imageTokenId: 49190,
      tokensPerTile: 64,
    });
    expect(spec(llama31).vision).toBeUndefined();
    const smolvlm = { ...smolVlm, model_type: 'smolvlm', architectures: ['SmolVLMForConditionalGeneration'] };
    expect(spec(smolvlm).family).toBe('smolvlm');
    // Of the larger one's tiles, 6 pixels a side are beside the last patch.
    const larger = { ...smolVlm, scale_factor: 3, vision_config: { image_size: 384, patch_size: 14 } };
    expect(spec(larger).vision).toMatchObject({ patchesPerSide: 27, tokensPerTile: 81, hidden: 1152 });
    const tied = { ...smolVlm, tie_word_embeddings: undefined };
    expect(
      spec({ ...tied, text_config: { ...smolVlm.text_config, tie_word_embeddings: true } }),
    ).toMatchObject({
      tiedEmbeddings: true,
    });
  });

  it.each([
    [{ text_config: { ...smolVlm.text_config, model_type: 'qwen2' } }, /text_config\.model_type "qwen2"/],
    [{ text_config: { ...smolVlm.text_config, hidden_size: 0 } }, /text_config: hidden_size/],
    [{ text_config: undefined }, /text_config/],
    [{ vision_config: undefined }, /vision_config/],
    [{ vision_config: { ...smolVlm.vision_config, model_type: 'clip_vision_model' } }, /"clip_vision_model"/],
    [{ vision_config: { ...smolVlm.vision_config, hidden_act: 'gelu' } }, /hidden_act "gelu"/],
    [{ vision_config: { ...smolVlm.vision_config, num_channels: 1 } }, /num_channels 1/],
    [
      { vision_config: { ...smolVlm.vision_config, num_attention_heads: 7 } },
      /multiple of num_attention_heads 7/,
    ],
    [{ scale_factor: 5 }, /the 32 patches of a side .* of scale_factor 5/],
    [{ image_token_id: 49280 }, /image_token_id 49280 is outside the vocabulary of 49280/],
    [{ architectures: ['LlavaForConditionalGeneration'] }, /"LlavaForConditionalGeneration"/],
  ])('refuses a vision model with %j', async (change, message) => {
    expect(await refusal(() => spec({ ...smolVlm, ...change }))).toMatch(message);
  });

  it('names an architecture that is not supported, and those that are', async () => {
    const gemma = { ...tinyConfig, model_type: 'gemma2', architectures: ['Gemma2ForCausalLM'] };
    const message = await refusal(() => spec(gemma));
    expect(message).toContain('"Gemma2ForCausalLM"');
    for (const name of ['Llama', 'Mistral', 'Qwen2', 'Qwen3'])
      expect(message).toContain(`${name}ForCausalLM`);
    const classifier = { ...tinyConfig, architectures: ['LlamaForSequenceClassification'] };
    expect(await refusal(() => spec(classifier))).toContain('"LlamaForSequenceClassification"');
  });

  it.each([
    ['no object', [], 'expected a JSON object'],
    ['a missing size', { ...tinyConfig, hidden_size: undefined }, 'hidden_size'],
    ['a size that is text', { ...tinyConfig, vocab_size: '32000' }, 'vocab_size'],
    ['a negative size', { ...tinyConfig, num_hidden_layers: -1 }, 'num_hidden_layers'],
    ['an absurd size', { ...tinyConfig, num_hidden_layers: 1e9 }, 'num_hidden_layers'],
    ['heads that KV heads do not divide', { ...tinyConfig, num_attention_heads: 3 }, 'hidden_size 8'],
    ['KV heads that do not divide', { ...tinyConfig, num_key_value_heads: 3 }, 'num_key_value_heads 3'],
    ['an odd head_dim', { ...tinyConfig, head_dim: 5 }, 'head_dim 5 is odd'],
    ['another activation', { ...tinyConfig, hidden_act: 'gelu' }, 'hidden_act "gelu"'],
    [
      'a quantized checkpoint',
      { ...tinyConfig, quantization_config: { quant_method: 'gptq' } },
      'is quantized',
    ],
    ['half a rotation', { ...tinyConfig, partial_rotary_factor: 0.5 }, 'partial_rotary_factor 0.5'],
    ['dynamic RoPE', { ...tinyConfig, rope_scaling: { type: 'dynamic', factor: 2 } }, '"dynamic"'],
    ['unknown RoPE', { ...tinyConfig, rope_scaling: { rope_type: 'longrope' } }, '"longrope"'],
    [
      'linear RoPE without factor',
      { ...tinyConfig, rope_scaling: { type: 'linear' } },
      'rope_scaling.factor',
    ],
    [
      'Llama 3 RoPE with swapped factors',
      { ...llama31, rope_scaling: { ...llama31.rope_scaling, low_freq_factor: 4 } },
      'high_freq_factor must be above',
    ],
    ['a theta of 0', { ...tinyConfig, rope_parameters: { rope_theta: 0 } }, 'rope_theta 0'],
    [
      'layer types for other layers',
      { ...tinyConfig, layer_types: ['full_attention'] },
      '1 entries for 2 layers',
    ],
    ['an unknown layer type', { ...tinyConfig, layer_types: ['mamba', 'mamba'] }, '"mamba"'],
  ])('refuses %s', async (_what, config, part) => {
    expect(await refusal(() => spec(JSON.parse(JSON.stringify(config))))).toContain(part);
  });
});

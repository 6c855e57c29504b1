import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';

/**
 * A Llama of a Hugging Face folder in float64, the plainest way: no cache, no batches, the textbook's loops. It shares no
 * code with what it checks, and knows grouped-query attention as every engine does: head h reads KV head h / group.
 */
export class Float64Model {
  readonly config: Record<string, number | boolean>;
  readonly #tensors = new Map<string, { shape: number[]; values: Float64Array }>();

  constructor(folder: string) {
    this.config = JSON.parse(readFileSync(path.join(folder, 'config.json'), 'utf8'));
    for (const name of readdirSync(folder)) {
      if (name.endsWith('.safetensors')) this.#read(path.join(folder, name));
    }
  }

  get names(): string[] {
    return [...this.#tensors.keys()];
  }

  shape(name: string): number[] {
    return this.#tensors.get(name)!.shape;
  }

  /** Logits behind the last token. */
  logits(tokens: readonly number[]): Float64Array {
    const size = (name: string) => Number(this.config[name]);
    const heads = size('num_attention_heads');
    const kvHeads = size('num_key_value_heads');
    const headDim = size('head_dim');
    const hidden = size('hidden_size');
    const embeddings = this.#values('model.embed_tokens.weight');
    const x = tokens.map((token) => embeddings.slice(token * hidden, (token + 1) * hidden));
    for (let layer = 0; layer < size('num_hidden_layers'); layer += 1) {
      const at = `model.layers.${layer}`;
      const inputs = x.map((row) => this.#norm(row, `${at}.input_layernorm.weight`));
      const project = (name: string) =>
        inputs.map((row) => this.#linear(row, `${at}.self_attn.${name}_proj`));
      const q = project('q').map((row, position) => this.#rotate(row, position, headDim));
      const k = project('k').map((row, position) => this.#rotate(row, position, headDim));
      const v = project('v');
      for (const [position, row] of x.entries()) {
        const attended = new Float64Array(heads * headDim);
        for (let head = 0; head < heads; head += 1) {
          const kvHead = Math.floor(head / (heads / kvHeads));
          const part = (of: Float64Array, index: number) => of.slice(index * headDim, (index + 1) * headDim);
          const scores = k
            .slice(0, position + 1)
            .map((key) => dot(part(q[position]!, head), part(key, kvHead)) / Math.sqrt(headDim));
          const most = Math.max(...scores);
          const weights = scores.map((score) => Math.exp(score - most));
          const sum = weights.reduce((a, b) => a + b);
          for (const [key, weight] of weights.entries()) {
            for (const [i, value] of part(v[key]!, kvHead).entries()) {
              attended[head * headDim + i]! += (weight / sum) * value;
            }
          }
        }
        add(row, this.#linear(attended, `${at}.self_attn.o_proj`));
        const normed = this.#norm(row, `${at}.post_attention_layernorm.weight`);
        const gate = this.#linear(normed, `${at}.mlp.gate_proj`);
        const up = this.#linear(normed, `${at}.mlp.up_proj`);
        add(
          row,
          this.#linear(
            gate.map((value, i) => (value / (1 + Math.exp(-value))) * up[i]!),
            `${at}.mlp.down_proj`,
          ),
        );
      }
    }
    const last = this.#norm(x.at(-1)!, 'model.norm.weight');
    return this.#linear(last, this.config.tie_word_embeddings ? 'model.embed_tokens' : 'lm_head');
  }

  #read(file: string): void {
    const bytes = readFileSync(file);
    const headerBytes = Number(bytes.readBigUInt64LE(0));
    const header = JSON.parse(bytes.toString('utf8', 8, 8 + headerBytes)) as Record<
      string,
      { dtype: string; shape: number[]; data_offsets: [number, number] }
    >;
    for (const [name, { dtype, shape, data_offsets: offsets }] of Object.entries(header)) {
      if (name === '__metadata__') continue;
      const data = bytes.subarray(8 + headerBytes + offsets[0], 8 + headerBytes + offsets[1]);
      const values =
        dtype === 'F32'
          ? Float64Array.from({ length: data.length / 4 }, (_, i) => data.readFloatLE(4 * i))
          : Float64Array.from({ length: data.length / 2 }, (_, i) => bf16(data.readUInt16LE(2 * i)));
      this.#tensors.set(name, { shape, values });
    }
  }

  #values(name: string): Float64Array {
    const found = this.#tensors.get(name);
    if (!found) throw new Error(`${name} is missing`);
    return found.values;
  }

  #linear(x: Float64Array, name: string): Float64Array {
    const weights = this.#values(`${name}.weight`);
    const bias = this.#tensors.get(`${name}.bias`)?.values;
    return Float64Array.from({ length: weights.length / x.length }, (_, row) => {
      return dot(weights.subarray(row * x.length, (row + 1) * x.length), x) + (bias?.[row] ?? 0);
    });
  }

  #norm(x: Float64Array, name: string): Float64Array {
    const gain = this.#values(name);
    const factor = 1 / Math.sqrt(dot(x, x) / x.length + Number(this.config.rms_norm_eps));
    return x.map((value, i) => value * factor * gain[i]!);
  }

  /** rotate_half of transformers' modeling_llama.py. */
  #rotate(x: Float64Array, position: number, headDim: number): Float64Array {
    const half = headDim / 2;
    const out = new Float64Array(x.length);
    for (let i = 0; i < x.length; i += 1) {
      const within = i % headDim;
      const angle = position * Number(this.config.rope_theta) ** ((-2 * (within % half)) / headDim);
      const other = within < half ? -x[i + half]! : x[i - half]!;
      out[i] = x[i]! * Math.cos(angle) + other * Math.sin(angle);
    }
    return out;
  }
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i += 1) sum += a[i]! * b[i]!;
  return sum;
}

function add(to: Float64Array, more: Float64Array): void {
  for (let i = 0; i < to.length; i += 1) to[i]! += more[i]!;
}

function bf16(bits: number): number {
  return new Float32Array(Uint32Array.of(bits << 16).buffer)[0]!;
}

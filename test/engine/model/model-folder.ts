import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { EngineError } from '../../../engine/index.js';

/** A temporary model folder; objects become JSON. Remove it with `removeFolders`. */
export async function modelFolder(files: Record<string, unknown> = {}): Promise<string> {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'tandem-model-'));
  folders.push(folder);
  for (const [name, content] of Object.entries(files)) {
    const bytes = typeof content === 'string' || Buffer.isBuffer(content) ? content : JSON.stringify(content);
    await writeFile(path.join(folder, name), bytes);
  }
  return folder;
}

const folders: string[] = [];

export async function removeFolders(): Promise<void> {
  for (const folder of folders.splice(0)) await rm(folder, { recursive: true, force: true });
}

/** A small Llama's `config.json`. */
export const tinyConfig = {
  model_type: 'llama',
  architectures: ['LlamaForCausalLM'],
  hidden_size: 8,
  intermediate_size: 12,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  vocab_size: 16,
  max_position_embeddings: 64,
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  tie_word_embeddings: true,
};

export interface HeaderEntry {
  dtype: string;
  shape: number[];
  data_offsets: [number, number];
}

/** A header for these tensors, one after another, and how many bytes of data it describes. */
export function headerOf(tensors: readonly [name: string, shape: readonly number[]][], dtype = 'BF16') {
  const header: Record<string, HeaderEntry> = {};
  let at = 0;
  for (const [name, shape] of tensors) {
    const end = at + 2 * shape.reduce((a, b) => a * b, 1);
    header[name] = { dtype, shape: [...shape], data_offsets: [at, end] };
    at = end;
  }
  return { header, dataBytes: at };
}

/** A safetensors file with this header and zeros as data. */
export function safetensorsFile(header: unknown, dataBytes: number): Buffer {
  const json = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const start = Buffer.alloc(8);
  start.writeBigUInt64LE(BigInt(json.length));
  return Buffer.concat([start, json, Buffer.alloc(dataBytes)]);
}

/** The error's message, if it is an `EngineError` of this code; anything else is thrown on. */
export async function refusal(work: () => unknown, code = 'model_invalid'): Promise<string> {
  try {
    await work();
  } catch (error) {
    if (error instanceof EngineError && error.code === code) return error.message;
    throw error;
  }
  throw new Error('expected a refusal');
}

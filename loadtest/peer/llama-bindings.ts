import path from 'node:path';
import { pathToFileURL } from 'node:url';

/**
 * The part of node-llama-cpp's own bindings (`dist/bindings/AddonTypes.d.ts`) that a measurement needs: batches without
 * the queueing and sampling around them, as llama.cpp's own llama-bench uses it. They are internal there, which is why
 * the version is pinned.
 */
export interface LlamaBindings {
  AddonModel: new (file: string, params: { gpuLayers: number; useMmap: boolean }) => LlamaModel;
  AddonContext: new (
    model: LlamaModel,
    params: {
      contextSize: number;
      batchSize: number;
      sequences: number;
      threads: number;
      flashAttention: 'auto';
    },
  ) => LlamaContext;
  AddonSampler: new (model: LlamaModel) => LlamaSampler;
  systemInfo(): string;
}

export interface LlamaModel {
  init(): Promise<boolean>;
  dispose(): Promise<void>;
  getModelDescription(): string;
}

export interface LlamaContext {
  init(): Promise<boolean>;
  dispose(): Promise<void>;
  initBatch(tokens: number): void;
  /** Returns where in the batch the logits of each of `logitIndexes` will be. */
  addToBatch(sequence: number, position: number, tokens: Uint32Array, logitIndexes: Uint32Array): Uint32Array;
  decodeBatch(): Promise<void>;
  /** Returns [token, _, _, pairs]; `pairs` holds token and logit in turns, for the tokens of the filter. */
  sampleToken(
    logitIndex: number,
    sampler: LlamaSampler,
    probabilities: false,
    confidence: false,
    logits: readonly [
      tokens: readonly number[],
      includeMax: boolean,
      includeMin: boolean,
      includeSelected: boolean,
      includeTop: number,
    ],
  ): Promise<readonly [number, unknown, unknown, readonly number[]]>;
  disposeSequence(sequence: number): void;
  getThreads(): number;
}

export interface LlamaSampler {
  applyConfig(config: { temperature: number }): void;
  dispose(): void;
}

/** `prefix`: where the package was installed. Nothing is built or downloaded. */
export async function loadLlamaBindings(prefix: string, threads: number): Promise<LlamaBindings> {
  const entry = path.join(prefix, 'node_modules', 'node-llama-cpp', 'dist', 'index.js');
  const { getLlama } = (await import(pathToFileURL(entry).href)) as {
    getLlama(options: object): Promise<{ _bindings: LlamaBindings }>;
  };
  const llama = await getLlama({
    gpu: false,
    build: 'never',
    skipDownload: true,
    progressLogs: false,
    logLevel: 'error',
    maxThreads: threads,
  });
  return llama._bindings;
}

import process from 'node:process';
import {
  type LlamaBindings,
  type LlamaContext,
  type LlamaModel,
  loadLlamaBindings,
} from './llama-bindings.js';
import type { Probe, Runner, RunnerInfo, RunnerOptions } from './runner.js';
import { serveRunner } from './serve-runner.js';

/** llama.cpp by node-llama-cpp. The KV cache is f16 and flash attention automatic: its defaults. */
class LlamaRunner implements Runner {
  readonly #contexts = new Map<number, LlamaContext>();
  #bindings!: LlamaBindings;
  #model!: LlamaModel;
  #options!: RunnerOptions;

  constructor(private readonly prefix: string) {}

  async open(options: RunnerOptions): Promise<RunnerInfo> {
    this.#options = options;
    this.#bindings = await loadLlamaBindings(this.prefix, options.threads);
    this.#model = new this.#bindings.AddonModel(options.model, { gpuLayers: 0, useMmap: true });
    if (!(await this.#model.init())) throw new Error(`${options.model} could not be loaded`);
    return { description: `${this.#model.getModelDescription()}; ${this.#bindings.systemInfo().trim()}` };
  }

  async prefill(prompt: readonly number[]): Promise<number> {
    const context = await this.#context(1);
    const begin = performance.now();
    await this.#read(context, 0, prompt);
    return (performance.now() - begin) / 1000;
  }

  async decode(prompts: readonly (readonly number[])[], steps: number): Promise<number> {
    const context = await this.#context(prompts.length);
    for (const [sequence, prompt] of prompts.entries()) await this.#read(context, sequence, prompt);
    const logitIndexes = Uint32Array.of(0);
    const begin = performance.now();
    for (let step = 0; step < steps; step += 1) {
      context.initBatch(prompts.length);
      for (const [sequence, prompt] of prompts.entries()) {
        // Which token comes next is no matter of time, so nothing is sampled here, as in llama-bench.
        const token = prompt[step % prompt.length]!;
        context.addToBatch(sequence, prompt.length + step, Uint32Array.of(token), logitIndexes);
      }
      await context.decodeBatch();
    }
    return (performance.now() - begin) / 1000;
  }

  async probe(prompt: readonly number[], candidates: readonly number[]): Promise<Probe> {
    const context = await this.#context(1);
    const at = await this.#read(context, 0, prompt);
    const sampler = new this.#bindings.AddonSampler(this.#model);
    try {
      sampler.applyConfig({ temperature: 0 });
      const filter = [candidates, false, false, false, 0] as const;
      const [best, , , pairs] = await context.sampleToken(at, sampler, false, false, filter);
      const logits = new Map<number, number>();
      for (let i = 0; i < pairs.length; i += 2) logits.set(pairs[i]!, pairs[i + 1]!);
      return { best, logits: candidates.map((token) => logits.get(token) ?? Number.NaN) };
    } finally {
      sampler.dispose();
    }
  }

  async close(): Promise<void> {
    for (const context of this.#contexts.values()) await context.dispose();
    await this.#model?.dispose();
  }

  /** With empty sequences. One per number of sequences is kept, so that its memory has been touched before it counts. */
  async #context(sequences: number): Promise<LlamaContext> {
    const { contextTokens, stepTokens, threads } = this.#options;
    let context = this.#contexts.get(sequences);
    if (!context) {
      context = new this.#bindings.AddonContext(this.#model, {
        contextSize: contextTokens * sequences,
        batchSize: stepTokens,
        sequences,
        threads,
        flashAttention: 'auto',
      });
      if (!(await context.init())) throw new Error(`no context of ${sequences} x ${contextTokens} tokens`);
      if (context.getThreads() !== threads)
        throw new Error(`runs on ${context.getThreads()} threads, not ${threads}`);
      this.#contexts.set(sequences, context);
    }
    for (let sequence = 0; sequence < sequences; sequence += 1) context.disposeSequence(sequence);
    return context;
  }

  /** Returns where in the last batch the logits of the last token are. */
  async #read(context: LlamaContext, sequence: number, prompt: readonly number[]): Promise<number> {
    let at = 0;
    for (let begin = 0; begin < prompt.length; begin += this.#options.stepTokens) {
      const tokens = Uint32Array.from(prompt.slice(begin, begin + this.#options.stepTokens));
      const isLast = begin + tokens.length === prompt.length;
      context.initBatch(tokens.length);
      const wanted = isLast ? Uint32Array.of(tokens.length - 1) : new Uint32Array();
      at = context.addToBatch(sequence, begin, tokens, wanted)[0] ?? 0;
      await context.decodeBatch();
    }
    return at;
  }
}

serveRunner(new LlamaRunner(process.argv[2]!));

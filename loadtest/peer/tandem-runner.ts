import { EngineSettings, ModelSettings } from '../../config/schema.js';
import { type Device, openDevice } from '../../engine/index.js';
import { decode, logitsAfter, prefill } from '../device/workloads.js';
import type { Probe, Runner, RunnerInfo, RunnerOptions } from './runner.js';
import { serveRunner } from './serve-runner.js';

/** Tandem's device without the engine around it. The KV cache is bf16. */
class TandemRunner implements Runner {
  #device!: Device;

  async open(options: RunnerOptions): Promise<RunnerInfo> {
    const { device } = await openDevice({
      model: ModelSettings.parse({ path: options.model, weights: options.weights }),
      engine: EngineSettings.parse({
        cores: options.threads,
        isa: options.isa,
        maxStepTokens: options.stepTokens,
        maxSequences: options.sequences,
        contextLength: options.contextTokens,
      }),
    });
    this.#device = device;
    const { isa, units } = device.info;
    return { description: `weights ${options.weights}, KV ${device.kv.precision}; ${isa} on ${units} cores` };
  }

  prefill(prompt: readonly number[]): Promise<number> {
    return prefill(this.#device, prompt);
  }

  decode(prompts: readonly (readonly number[])[], steps: number): Promise<number> {
    return decode(this.#device, prompts, steps);
  }

  async probe(prompt: readonly number[], candidates: readonly number[]): Promise<Probe> {
    const logits = await logitsAfter(this.#device, prompt);
    let best = 0;
    for (let id = 1; id < logits.length; id += 1) if (logits[id]! > logits[best]!) best = id;
    return { best, logits: candidates.map((id) => logits[id]!) };
  }

  async close(): Promise<void> {
    await this.#device?.close();
  }
}

serveRunner(new TandemRunner());

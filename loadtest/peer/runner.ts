import type { EngineSettings } from '../../config/schema.js';

/**
 * What both sides of a comparison do, each in its own process. A measurement returns seconds of wall time, JavaScript
 * included. Everything that is no part of it (loading, making room, warming up) happens outside the timed part.
 */
export interface Runner {
  open(options: RunnerOptions): Promise<RunnerInfo>;
  /** Read a prompt into an empty sequence; the logits of its last token are computed. */
  prefill(prompt: readonly number[]): Promise<number>;
  /** Read `prompts` untimed, then extend all of them together by one token a step. */
  decode(prompts: readonly (readonly number[])[], steps: number): Promise<number>;
  /** What the model says after a prompt: the most likely token, and the logits of `candidates`. */
  probe(prompt: readonly number[], candidates: readonly number[]): Promise<Probe>;
  close(): Promise<void>;
}

export interface RunnerOptions {
  /** Model folder for Tandem, GGUF file for llama.cpp. */
  readonly model: string;
  readonly threads: number;
  /** Of ours; llama.cpp takes the best that it has a build for. */
  readonly isa: EngineSettings['isa'];
  /** Tokens of one prefill step. */
  readonly stepTokens: number;
  /** Longest sequence, and most sequences, that the measurements need. */
  readonly contextTokens: number;
  readonly sequences: number;
  /** Class of Tandem's weights; a GGUF file says its own. */
  readonly weights: 'bf16' | 'int8' | 'int4';
}

export interface RunnerInfo {
  /** For people: version, instruction set. */
  readonly description: string;
}

export interface Probe {
  readonly best: number;
  readonly logits: readonly number[];
}

/** A call to a runner in another process, and its answer. */
export interface RunnerCall {
  readonly id: number;
  readonly method: keyof Runner;
  readonly args: readonly unknown[];
}

export type RunnerAnswer =
  | { readonly id: number; readonly value: unknown }
  | { readonly id: number; readonly error: string };

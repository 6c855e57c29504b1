import type { SlotSampling } from '../device/device.js';

/** The likeliest token, nothing else: for measurements of the device alone. */
export const greedySampling: SlotSampling = {
  temperature: 0,
  topP: 1,
  topK: 0,
  minP: 0,
  presencePenalty: 0,
  frequencyPenalty: 0,
  repetitionPenalty: 1,
  seed: 0n,
  logitBias: new Map(),
  minTokens: 0,
  suppressedBelowMin: new Int32Array(),
  logprobs: -1,
  promptTokens: new Int32Array(),
  generatedTokens: new Int32Array(),
};

import { randomBytes } from 'node:crypto';
import type { GrammarHandle, SlotSampling } from '../device/device.js';
import type { GenerateRequest } from '../types.js';

const none = new Int32Array(0);

/** A seed for a request that brings none. */
export function randomSeed(): bigint {
  return randomBytes(8).readBigUInt64LE();
}

/** Choices of one request draw apart: each has its own seed, made from the request's by the SplitMix64 finalizer. */
export function choiceSeed(seed: bigint, choice: number): bigint {
  if (choice === 0) return BigInt.asUintN(64, seed);
  let z = BigInt.asUintN(64, seed + BigInt(choice) * 0x9e3779b97f4a7c15n);
  z = BigInt.asUintN(64, (z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n);
  z = BigInt.asUintN(64, (z ^ (z >> 27n)) * 0x94d049bb133111ebn);
  return z ^ (z >> 31n);
}

/** What native is told of a sequence when its slot opens, for the first time or after a pre-emption. */
export function slotSampling(
  request: GenerateRequest,
  seed: bigint,
  stopTokenIds: ReadonlySet<number>,
  generated: Int32Array,
  grammar?: GrammarHandle,
): SlotSampling {
  const { sampling } = request;
  const penalized =
    sampling.presencePenalty !== 0 || sampling.frequencyPenalty !== 0 || sampling.repetitionPenalty !== 1;
  return {
    temperature: sampling.temperature,
    topP: sampling.topP,
    topK: sampling.topK,
    minP: sampling.minP,
    presencePenalty: sampling.presencePenalty,
    frequencyPenalty: sampling.frequencyPenalty,
    repetitionPenalty: sampling.repetitionPenalty,
    seed,
    logitBias: sampling.logitBias,
    minTokens: request.minTokens,
    suppressedBelowMin: request.minTokens > 0 ? Int32Array.from(stopTokenIds) : none,
    logprobs: request.logprobs,
    promptTokens: penalized ? request.prompt : none,
    generatedTokens: penalized || request.minTokens > 0 || grammar !== undefined ? generated : none,
    ...(grammar !== undefined && {
      grammar: { handle: grammar, shownTokens: Int32Array.from(request.shownSpecialTokens ?? []) },
    }),
  };
}

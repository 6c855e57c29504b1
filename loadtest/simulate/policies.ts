import {
  aim,
  ChunkedPolicy,
  correctedModel,
  type GpuName,
  type LanePolicy,
  modelWork,
  NexusPolicy,
  nexusDefaults,
  PrefillFirstPolicy,
  preset,
  ReactivePolicy,
  type SimulatedModel,
  StaticPolicy,
  splitsOf,
} from '../../engine/index.js';
import type { Slo } from '../serve/slo.js';

/** Who shares the device how; `disaggregated` takes two devices, one for each phase. */
export const policyNames = [
  'nexus',
  'chunked',
  'prefill-first',
  'static',
  'reactive',
  'disaggregated',
] as const;
export type PolicyName = (typeof policyNames)[number];
/** Those that a server has too. */
export type OneDevicePolicyName = Exclude<PolicyName, 'disaggregated'>;

export interface PolicyOptions {
  /** Tokens of a mixed step of `chunked`. */
  readonly chunkBudget: number;
  /** Part of the units that `static` gives to prompts. */
  readonly staticShare: number;
  /** Whether nexus and reactive are told the objectives, or go by their slacks. */
  readonly knowsSlo: boolean;
  readonly slo: Slo;
  /** Of nexus, for ablations. */
  readonly contention: boolean;
  readonly correction: boolean;
  readonly hysteresis: number;
}

export const policyDefaults = {
  chunkBudget: 2048,
  staticShare: 0.5,
  knowsSlo: false,
  contention: true,
  correction: true,
  hysteresis: nexusDefaults.hysteresis,
} as const;

/** The scheduler's side of a GPU: the model's sizes and the preset of the GPU's kind, and nothing of the truth. */
export function makePolicy(
  name: OneDevicePolicyName,
  gpu: GpuName,
  model: SimulatedModel,
  options: PolicyOptions,
): LanePolicy {
  const constants = preset(gpu);
  const splits = splitsOf(constants.units, constants.smallestGroup);
  const { tbt: eachMs, tpot: meanMs } = options.slo;
  const tbtMs = Math.min(
    aim.each * (eachMs ?? Number.POSITIVE_INFINITY),
    aim.mean * (meanMs ?? Number.POSITIVE_INFINITY),
  );
  const tbt = options.knowsSlo && Number.isFinite(tbtMs) ? { tbtSeconds: tbtMs / 1000 } : {};
  switch (name) {
    case 'chunked':
      return new ChunkedPolicy(options.chunkBudget);
    case 'prefill-first':
      return new PrefillFirstPolicy();
    case 'static':
      return new StaticPolicy(splits, options.staticShare);
    case 'reactive':
      return new ReactivePolicy({ splits, slack: nexusDefaults.decodeSlack, ...tbt });
    case 'nexus': {
      const { ttft } = options.slo;
      const { predictor, learner } = correctedModel(modelWork(model, 'bf16'), constants, {
        contention: options.contention,
      });
      return new NexusPolicy({
        ...nexusDefaults,
        hysteresis: options.hysteresis,
        predictor,
        ...(options.correction && { learner }),
        splits,
        ...tbt,
        ...(options.knowsSlo && ttft !== undefined && { ttftSeconds: ttft / 1000 }),
      });
    }
  }
}

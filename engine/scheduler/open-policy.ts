import type { Predictor } from './partition.js';
import { ChunkedPolicy } from './policies/chunked.js';
import { type Learner, NexusPolicy, nexusDefaults } from './policies/nexus.js';
import { PrefillFirstPolicy } from './policies/prefill-first.js';
import { ReactivePolicy } from './policies/reactive.js';
import { StaticPolicy } from './policies/static.js';
import type { LanePolicy } from './policy.js';

export const policyNames = ['nexus', 'chunked', 'prefill-first', 'static', 'reactive'] as const;
export type PolicyName = (typeof policyNames)[number];

export interface PolicySettings {
  readonly decodeSlack: number;
  readonly tbtSeconds?: number;
  readonly ttftSeconds?: number;
  /** Prefill's part of the units under `static`. */
  readonly prefillShare: number;
  /** Tokens of a step under `chunked`. */
  readonly budgetTokens: number;
}

/**
 * `splits`: units of prefill in each split of the device, rising. Only `nexus` asks the predictor, and lets the learner
 * correct it.
 */
export function openPolicy(
  name: PolicyName,
  settings: PolicySettings,
  splits: readonly number[],
  predictor: Predictor,
  learner?: Learner,
): LanePolicy {
  const { decodeSlack, tbtSeconds, ttftSeconds, prefillShare, budgetTokens } = settings;
  switch (name) {
    case 'nexus':
      return new NexusPolicy({
        ...nexusDefaults,
        predictor,
        ...(learner && { learner }),
        splits,
        decodeSlack,
        ...(tbtSeconds !== undefined && { tbtSeconds }),
        ...(ttftSeconds !== undefined && { ttftSeconds }),
      });
    case 'chunked':
      return new ChunkedPolicy(budgetTokens);
    case 'prefill-first':
      return new PrefillFirstPolicy();
    case 'static':
      return new StaticPolicy(splits, prefillShare);
    case 'reactive':
      return new ReactivePolicy({
        splits,
        slack: decodeSlack,
        ...(tbtSeconds !== undefined && { tbtSeconds }),
      });
  }
}

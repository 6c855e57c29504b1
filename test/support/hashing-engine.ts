import { LocalEngine } from '../../engine/engine.js';
import type { Tokenizer } from '../../engine/model/text.js';
import { openPolicy, type PolicyName } from '../../engine/scheduler/open-policy.js';
import type { LanePolicy } from '../../engine/scheduler/policy.js';
import { splitsOf } from '../../engine/scheduler/splits.js';
import type { EngineInfo } from '../../engine/types.js';
import { simplePredictor } from '../engine/scheduler/history.js';
import type { HashingDevice } from './hashing-device.js';

type Parts = ConstructorParameters<typeof LocalEngine>[0];

/** Tokens have no text here. */
const tokenizer = {
  vocabSize: 997,
  stream: () => ({ push: () => '', end: () => '' }),
} as unknown as Tokenizer;

export function simplePolicy(name: PolicyName): LanePolicy {
  const options = { decodeSlack: 1.2, prefillShare: 0.5, budgetTokens: 96 };
  return openPolicy(name, options, splitsOf(2, 1), simplePredictor(2));
}

interface HashingEngine extends Partial<Parts> {
  readonly device: HashingDevice;
  readonly policyName?: PolicyName;
  readonly policyOf?: (name: PolicyName) => LanePolicy;
  readonly contextLength?: number;
}

/** An engine of requests that are tokens alone, over a device whose steps, copies and conversions end when a test says so. */
export function hashingEngine(options: HashingEngine): LocalEngine {
  const {
    device,
    policyName = 'chunked',
    policyOf = simplePolicy,
    contextLength = 10_000,
    ...over
  } = options;
  const schedulingOf = (name: PolicyName) => ({
    policy: policyOf(name),
    stepSeconds: () => 0.01,
    constantsOrigin: 'a test',
  });
  const info = {
    spec: device.info.spec,
    device: { name: 'hashes' },
    contextLength,
    eosTokenIds: [] as number[],
  };
  let now = 0;
  return new LocalEngine({
    device,
    tokenizer,
    info: info as unknown as EngineInfo,
    prefixCache: true,
    swapBytes: 0,
    ...schedulingOf(policyName),
    reopenScheduling: ({ scheduler = policyName }) => schedulingOf(scheduler),
    prefillOrder: 'fcfs',
    reopenSeconds: 1,
    maxQueue: 1000,
    queueTimeoutMs: 0,
    now: () => now++,
    ...over,
  });
}

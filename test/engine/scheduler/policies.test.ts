import { describe, expect, it } from 'vitest';
import type { Predictor } from '../../../engine/scheduler/partition.js';
import { NexusPolicy, nexusDefaults } from '../../../engine/scheduler/policies/nexus.js';
import { ReactivePolicy } from '../../../engine/scheduler/policies/reactive.js';
import { StaticPolicy } from '../../../engine/scheduler/policies/static.js';
import type { Situation } from '../../../engine/scheduler/policy.js';
import { splitsOf } from '../../../engine/scheduler/splits.js';
import { StepLoad } from '../../../engine/scheduler/step-load.js';
import { simplePredictor } from './history.js';

const units = 16;
const splits = splitsOf(units, 1);

function decoding(sequences: number, context = 500): StepLoad {
  const load = new StepLoad();
  for (let i = 0; i < sequences; i++) load.addDecode(context, 1000);
  return load;
}

function reading(tokens: number): StepLoad {
  const load = new StepLoad();
  load.addChunk(tokens, 0, 1000, false);
  return load;
}

function situation(over: Partial<Situation> = {}): Situation {
  return {
    nowMs: 0,
    units,
    decode: decoding(8),
    prefill: reading,
    prefillTokens: 2000,
    oldestWaitMs: 0,
    oldestTokens: 2000,
    maxStepTokens: 512,
    kvUsage: 0.1,
    inFlight: { prefill: null, decode: null },
    ...over,
  };
}

function nexus(over: Partial<ConstructorParameters<typeof NexusPolicy>[0]> = {}): NexusPolicy {
  return new NexusPolicy({ ...nexusDefaults, predictor: simplePredictor(units), splits, ...over });
}

/** Both phases compute all the time: what one gets the other lacks. A token of a prompt takes 1 ms of all units. */
const busy: Predictor = {
  alone: (load, given) =>
    ((0.001 * load.prefillTokens + (load.decodeSequences > 0 ? 0.02 : 0)) * units) / given,
  together: (prefill, decode, prefillUnits, out) => {
    out.prefill = busy.alone(prefill, prefillUnits);
    out.decode = busy.alone(decode, units - prefillUnits);
  },
};

describe('nexus policy', () => {
  it('gives a lone phase every unit', () => {
    expect(nexus().decide(situation({ decode: null }))).toMatchObject({ mode: 'split', prefillUnits: units });
    expect(nexus().decide(situation({ prefill: null }))).toMatchObject({ mode: 'split', prefillUnits: 0 });
  });

  it('keeps decode within its slack while memory is to spare', () => {
    const policy = nexus({ decodeSlack: 1.3 });
    policy.decide(situation());
    const { chosen, favours, bound } = policy.explanation!;
    expect(favours).toBe('prefill');
    expect(bound).toBeCloseTo(1.3 * simplePredictor(units).alone(decoding(8), units));
    expect(chosen.decodeSeconds).toBeLessThanOrEqual(bound);
  });

  it('favours decode from the threshold of KV usage on, and keeps prefill within its slack', () => {
    const policy = nexus();
    policy.decide(situation({ kvUsage: 0.71 }));
    const { chosen, favours, bound } = policy.explanation!;
    expect(favours).toBe('decode');
    expect(chosen.prefillRate).toBeGreaterThanOrEqual(bound);
  });

  it('lets a looser objective take the place of the slack', () => {
    const tight = nexus();
    const loose = nexus({ tbtSeconds: 1 });
    tight.decide(situation());
    loose.decide(situation());
    expect(loose.explanation!.bound).toBe(1);
    expect(loose.explanation!.chosen.prefillRate).toBeGreaterThan(tight.explanation!.chosen.prefillRate);
  });

  it('reads prompts the faster the longer the oldest waits, however little decode leaves them', () => {
    const alone = 512 / busy.alone(reading(512), units);
    const full = alone / nexusDefaults.prefillSlack;
    const patienceMs = (nexusDefaults.patience * 2000 * 1000) / alone;
    const rateAfter = (oldestWaitMs: number) => {
      const policy = nexus({ decodeSlack: 1.1, predictor: busy });
      policy.decide(situation({ oldestWaitMs }));
      return policy.explanation!.chosen.prefillRate;
    };
    expect(rateAfter(0)).toBeLessThan(0.2 * full);
    expect(rateAfter(0.6 * patienceMs)).toBeGreaterThanOrEqual(0.6 * full);
    expect(rateAfter(0.6 * patienceMs)).toBeLessThan(full);
    expect(rateAfter(9 * patienceMs)).toBeGreaterThanOrEqual(full);
  });

  it('lets a late prompt count no more than a late token where both have objectives', () => {
    const policy = nexus({ decodeSlack: 1.1, predictor: busy, ttftSeconds: 10, tbtSeconds: 0.03 });
    policy.decide(situation({ oldestWaitMs: 60_000 }));
    const { favours, bound, chosen } = policy.explanation!;
    expect({ favours, bound }).toEqual({ favours: 'prefill', bound: 0.03 });
    expect(chosen.decodeSeconds).toBeLessThanOrEqual(bound);
  });

  it('keeps the present split where another promises little more', () => {
    const policy = nexus({ hysteresis: 0.5 });
    policy.decide(situation({ decode: decoding(8) }));
    const first = policy.explanation!.chosen;
    policy.decide(situation({ decode: decoding(9) }));
    expect(policy.explanation!.chosen).toMatchObject({ mode: first.mode, prefillUnits: first.prefillUnits });
  });

  it('changes nothing while a chunk is read', () => {
    const policy = nexus({ decodeSlack: 3 });
    const decision = policy.decide(situation());
    const inFlight = { prefill: { load: reading(512), units: 10 }, decode: null };
    expect(policy.decide(situation({ prefill: null, prefillTokens: 0, inFlight }))).toEqual(decision);
  });

  it('decides by few predictions, whatever the load', () => {
    let predictions = 0;
    const counted = simplePredictor(132);
    const policy = nexus({
      splits: splitsOf(132, 8),
      predictor: {
        alone: (load, given) => {
          predictions++;
          return counted.alone(load, given);
        },
        together: (prefill, decode, prefillUnits, out) => {
          predictions++;
          counted.together(prefill, decode, prefillUnits, out);
        },
      },
    });
    for (const decode of [decoding(1), decoding(64), decoding(200, 8000)]) {
      policy.decide(situation({ units: 132, decode, maxStepTokens: 8192, prefillTokens: 100_000 }));
    }
    predictions = 0;
    policy.decide(
      situation({ units: 132, decode: decoding(64), maxStepTokens: 8192, prefillTokens: 100_000 }),
    );
    expect(predictions).toBeLessThanOrEqual(36);
  });
});

describe('static policy', () => {
  it('holds the split that is nearest to its share', () => {
    expect(new StaticPolicy(splits, 0.7).decide(situation())).toMatchObject({
      mode: 'split',
      prefillUnits: 11,
    });
    expect(new StaticPolicy(splits, 0.01).decide(situation())).toMatchObject({ prefillUnits: 1 });
    expect(new StaticPolicy(splits, 0.7).decide(situation({ prefill: null }))).toMatchObject({
      prefillUnits: 0,
    });
  });
});

describe('reactive policy', () => {
  const step = { lane: 'decode' as const, load: decoding(8), units: 8, nowMs: 0 };
  const beside = { load: reading(512), units: 8 };

  it('gives decode a notch when steps are over the target, and takes it back when they are well below', () => {
    const policy = new ReactivePolicy({ splits, slack: 1.5 });
    const split = () => (policy.decide(situation()) as { prefillUnits: number }).prefillUnits;
    const begin = split();
    policy.observe({ ...step, seconds: 0.02, other: null });
    for (let i = 0; i < 8; i++) policy.observe({ ...step, seconds: 0.04, other: beside });
    expect(split()).toBe(begin - 1);
    for (let i = 0; i < 8; i++) policy.observe({ ...step, seconds: 0.021, other: beside });
    expect(split()).toBe(begin);
    for (let i = 0; i < 20; i++) policy.observe({ ...step, seconds: 0.028, other: beside });
    expect(split()).toBe(begin);
  });

  it('holds a target in seconds where there is one', () => {
    const policy = new ReactivePolicy({ splits, slack: 1.5, tbtSeconds: 0.1 });
    const split = () => (policy.decide(situation()) as { prefillUnits: number }).prefillUnits;
    const begin = split();
    for (let i = 0; i < 8; i++) policy.observe({ ...step, seconds: 0.04, other: beside });
    expect(split()).toBe(begin + 1);
  });
});

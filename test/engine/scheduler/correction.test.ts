import { describe, expect, it } from 'vitest';
import { Correction } from '../../../engine/scheduler/correction.js';
import { CostModel } from '../../../engine/scheduler/cost-model.js';
import { modelWork } from '../../../engine/scheduler/model-work.js';
import type { FinishedStep } from '../../../engine/scheduler/policy.js';
import { decodeLoad, plainConstants, prefillLoad, tinySpec } from './cost-model-case.js';

const work = modelWork(tinySpec, 'int8');
const constants = plainConstants({});
const truth = new CostModel(work, constants, 100);

function corrected() {
  const correction = new Correction();
  return { correction, model: new CostModel(work, constants, 100, { factors: correction.factors }) };
}

function finished(step: Partial<FinishedStep>): FinishedStep {
  return { lane: 'decode', load: decodeLoad(4, 100), units: 50, seconds: 1, other: null, nowMs: 0, ...step };
}

describe('the correction', () => {
  it('learns that decode takes half as long again, and leaves prefill as it is', () => {
    const { correction, model } = corrected();
    const before = model.alone(prefillLoad(64), 50);
    for (let step = 0; step < 2000; step++) {
      const load = decodeLoad(1 + (step % 8), 50 + step);
      correction.observe(finished({ load, seconds: 1.5 * truth.alone(load, 50) }), model);
    }
    const load = decodeLoad(5, 300);
    expect(model.alone(load, 50) / truth.alone(load, 50)).toBeCloseTo(1.5, 1);
    expect(correction.errorRatio('decode')).toBeCloseTo(1, 2);
    expect(correction.errorRatio('prefill')).toBe(1);
    expect(model.alone(prefillLoad(64), 50)).toBe(before);
  });

  it('learns each operator class, where they are measured', () => {
    const { correction, model } = corrected();
    const wrong = [1.3, 1, 0.6, 2];
    const opSeconds = new Float64Array(4);
    for (let step = 0; step < 400; step++) {
      const load = decodeLoad(4, 200);
      truth.byClass(load, 50, null, opSeconds);
      for (const [index, factor] of wrong.entries()) opSeconds[index]! *= factor;
      const seconds = opSeconds.reduce((a, b) => a + b);
      correction.observe(finished({ load, seconds, opSeconds }), model);
    }
    const learned = [...correction.factors.subarray(4, 8)];
    for (const index of [0, 2, 3]) expect(learned[index]).toBeCloseTo(wrong[index]!, 2);
  });

  it('takes what ran beside the step into account', () => {
    const { correction, model } = corrected();
    const other = { load: prefillLoad(512), units: 50 };
    const load = decodeLoad(8, 1000);
    for (let step = 0; step < 50; step++) {
      const seconds = truth.byClass(load, 50, other, new Float64Array(4));
      correction.observe(finished({ load, other, seconds }), model);
    }
    expect(Math.max(...correction.factors)).toBeCloseTo(1, 9);
  });

  it('learns what steps cost each other apart from what each takes alone', () => {
    const { correction, model } = corrected();
    const prefill = prefillLoad(512);
    const decode = decodeLoad(8, 1000);
    const alone = model.alone(decode, 100);
    const foreseen = { prefill: 0, decode: 0 };
    truth.together(prefill, decode, 50, foreseen);
    for (let step = 0; step < 400; step++) {
      const other = { load: prefill, units: 50 };
      correction.observe(finished({ load: decode, other, seconds: 1.4 * foreseen.decode }), model);
    }
    expect(model.alone(decode, 100)).toBe(alone);
    const learned = { prefill: 0, decode: 0 };
    model.together(prefill, decode, 50, learned);
    expect(learned.decode / foreseen.decode).toBeCloseTo(1.4, 2);
    expect(learned.prefill).toBe(foreseen.prefill);
  });

  it('expects of a device that is slower than foreseen alone that it is with both lanes busy, too', () => {
    const { correction, model } = corrected();
    const decode = decodeLoad(8, 1000);
    for (let step = 0; step < 400; step++) {
      correction.observe(finished({ load: decode, seconds: 1.4 * truth.alone(decode, 50) }), model);
    }
    const foreseen = { prefill: 0, decode: 0 };
    const learned = { prefill: 0, decode: 0 };
    truth.together(prefillLoad(512), decode, 50, foreseen);
    model.together(prefillLoad(512), decode, 50, learned);
    expect(learned.decode / foreseen.decode).toBeCloseTo(1.4, 2);
  });

  it('is not thrown off by one step that the machine stopped in', () => {
    const { correction, model } = corrected();
    const load = decodeLoad(4, 100);
    correction.observe(finished({ load, seconds: 1000 * truth.alone(load, 50) }), model);
    expect(Math.max(...correction.factors)).toBeLessThan(1.03);
  });

  it('stays within a factor of four, whatever it sees', () => {
    const { correction, model } = corrected();
    const load = decodeLoad(4, 100);
    for (let step = 0; step < 5000; step++) correction.observe(finished({ load, seconds: 1 }), model);
    expect(Math.max(...correction.factors)).toBeCloseTo(4, 9);
    expect(correction.errorRatio('decode')).toBeGreaterThan(1.9);
  });

  it('ignores a step that took no time', () => {
    const { correction, model } = corrected();
    correction.observe(finished({ seconds: 0 }), model);
    expect([...correction.factors]).toEqual(Array(16).fill(1));
  });
});

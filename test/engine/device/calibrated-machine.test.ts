import { describe, expect, it } from 'vitest';
import { CalibratedMachine } from '../../../engine/device/simulated/calibrated-machine.js';
import { CostModel } from '../../../engine/scheduler/cost-model.js';
import { type ModelWork, modelWork } from '../../../engine/scheduler/model-work.js';
import type { StepLoad } from '../../../engine/scheduler/step-load.js';
import fc from '../../support/fast-check.js';
import {
  anyConstants,
  anyDecode,
  anyPrefill,
  decodeLoad,
  plainConstants,
  prefillLoad,
  tinySpec,
} from '../scheduler/cost-model-case.js';

const work = modelWork(tinySpec, 'int8');
/** A model of matmuls and attention alone, on a device that only computes, half as fast beside another lane. */
const plainWork: ModelWork = { ...work, rowOperations: 0, rowBytes: 0, logitOperations: 0, logitBytes: 0 };
const halved = plainConstants({ memory: { bytesPerSecond: 1e15, interference: 1 } });

const prompt = prefillLoad(512);
const streams = decodeLoad(8, 100);

function alone(load: StepLoad, units: number): number {
  return new CostModel(plainWork, halved, 100).alone(load, units);
}

describe('a machine as its calibration knows it', () => {
  it('takes for a step alone exactly what the cost model foresees', () => {
    fc.assert(
      fc.property(
        anyConstants,
        fc.oneof(anyPrefill, anyDecode),
        fc.integer({ min: 1, max: 100 }),
        (constants, load, units) => {
          const machine = new CalibratedMachine(work, constants);
          machine.start('decode', load, units, 0);
          const { lane, seconds, opSeconds } = machine.finishNext();
          expect(lane).toBe('decode');
          expect(seconds).toBe(new CostModel(work, constants, 100).alone(load, units));
          expect(opSeconds.reduce((sum, value) => sum + value, 0) / seconds).toBeCloseTo(1, 9);
        },
      ),
    );
  });

  it('takes for steps that begin together what the cost model foresees of both, up to where one ends', () => {
    fc.assert(
      fc.property(
        anyConstants,
        anyPrefill,
        anyDecode,
        fc.integer({ min: 1, max: 99 }),
        (constants, prefill, decode, units) => {
          const machine = new CalibratedMachine(work, constants);
          machine.start('prefill', prefill, units, 0);
          machine.start('decode', decode, 100 - units, 0);
          const model = new CostModel(work, constants, 100);
          const foreseen = { prefill: 0, decode: 0 };
          model.together(prefill, decode, units, foreseen);
          const first = machine.finishNext();
          expect(first.seconds).toBe(Math.min(foreseen.prefill, foreseen.decode));
          const { lane, seconds } = machine.finishNext();
          const load = lane === 'prefill' ? prefill : decode;
          const left = 1 - first.seconds / foreseen[lane];
          const rest = left * model.alone(load, lane === 'prefill' ? units : 100 - units);
          expect(seconds / (first.seconds + rest)).toBeCloseTo(1, 9);
        },
      ),
    );
  });

  it('slows a step down where another begins, and lets it speed up where that ends', () => {
    const machine = new CalibratedMachine(plainWork, halved);
    const [promptAlone, streamsAlone] = [alone(prompt, 50), alone(streams, 50)];
    expect(streamsAlone).toBeLessThan(promptAlone / 4);
    machine.start('prefill', prompt, 50, 0);
    expect(machine.nextEnd()).toBe(promptAlone);
    machine.start('decode', streams, 50, promptAlone / 2);
    // Both at half their speed, so the streams take twice as long as alone ...
    expect(machine.nextEnd()).toBeCloseTo(promptAlone / 2 + 2 * streamsAlone, 12);
    const first = machine.finishNext();
    expect(first.lane).toBe('decode');
    expect(first.seconds).toBeCloseTo(2 * streamsAlone, 12);
    // ... and meanwhile the prompt has lost half of that.
    const second = machine.finishNext();
    expect(second.lane).toBe('prefill');
    expect(second.seconds).toBeCloseTo(promptAlone + streamsAlone, 12);
    expect(second.opSeconds.reduce((sum, value) => sum + value, 0)).toBeCloseTo(second.seconds, 12);
    expect(machine.nextEnd()).toBe(Number.POSITIVE_INFINITY);
  });

  it('goes on beside each of several short steps, with gaps between them', () => {
    const machine = new CalibratedMachine(plainWork, halved);
    const [promptAlone, streamsAlone] = [alone(prompt, 60), alone(streams, 40)];
    machine.start('prefill', prompt, 60, 0);
    for (const begin of [0, 4, 8].map((times) => times * streamsAlone)) {
      machine.start('decode', streams, 40, begin);
      const { lane, seconds } = machine.finishNext();
      expect(lane).toBe('decode');
      expect(seconds).toBeCloseTo(2 * streamsAlone, 12);
    }
    expect(machine.finishNext().seconds).toBeCloseTo(promptAlone + 3 * streamsAlone, 12);
  });

  it('counts steps, busy time, units, bytes and changes of the units', () => {
    const machine = new CalibratedMachine(work, plainConstants({}));
    machine.start('prefill', prompt, 50, 0);
    const first = machine.finishNext();
    machine.start('prefill', prompt, 100, 1);
    const second = machine.finishNext();
    const { steps, busySeconds, unitSeconds, bytesRead, repartitions } = machine.totals();
    expect(steps).toEqual({ prefill: 2, decode: 0 });
    expect(busySeconds.prefill).toBeCloseTo(first.seconds + second.seconds, 12);
    expect(unitSeconds).toBeCloseTo(50 * first.seconds + 100 * second.seconds, 12);
    expect(bytesRead).toBeCloseTo(2 * (work.layerBytes + work.headBytes + prompt.prefillKvBytes), 6);
    expect(repartitions).toBe(1);
  });

  it('refuses a busy lane, and more units than are free', () => {
    const machine = new CalibratedMachine(work, plainConstants({}));
    machine.start('prefill', prompt, 60, 0);
    expect(() => machine.start('prefill', prompt, 10, 0)).toThrow('the prefill lane is busy');
    expect(() => machine.start('decode', streams, 41, 0)).toThrow('40 are free');
    machine.finishNext();
    expect(() => machine.finishNext()).toThrow('no step runs');
  });
});

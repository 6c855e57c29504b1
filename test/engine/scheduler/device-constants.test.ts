import { describe, expect, it } from 'vitest';
import { CostModel } from '../../../engine/scheduler/cost-model.js';
import { growth, parseConstants, withUnits } from '../../../engine/scheduler/device-constants.js';
import { modelWork } from '../../../engine/scheduler/model-work.js';
import { cpuPreset, preset, presetFor, presetNames } from '../../../engine/scheduler/presets.js';
import { StepLoad } from '../../../engine/scheduler/step-load.js';
import { plainConstants, tinySpec } from './cost-model-case.js';

describe('growth with the share', () => {
  it('is proportional up to saturation, by the slope beyond, and 1 for the whole', () => {
    expect(growth(1, 0.4, 0.3)).toBe(1);
    expect(growth(0.4, 0.4, 0.5)).toBeCloseTo(0.4 / 0.7, 12);
    expect(growth(0.2, 0.4, 0.5)).toBeCloseTo(0.2 / 0.7, 12);
    expect(growth(0.5, 1, 0)).toBe(0.5);
    expect(growth(0, 0.5, 0.5)).toBe(0);
  });
});

describe('stored constants', () => {
  const stored = () => JSON.parse(JSON.stringify(plainConstants({})));

  it('are read as they were written', () => {
    expect(parseConstants(stored(), 'file.json')).toEqual(plainConstants({}));
  });

  it('are read without crowding, as they were stored before it was known', () => {
    const { crowding: _, ...memory } = stored().memory;
    expect(parseConstants({ ...stored(), memory }, 'file.json').memory.crowding).toBe(0);
  });

  it.each([
    ['a text', 'x', 'file.json: the constants: expected an object, found "x"'],
    ['no units', { ...stored(), units: 0 }, 'file.json: units: expected a whole number above 0, found 0'],
    ['no memory', { ...stored(), memory: undefined }, 'file.json: memory: expected an object'],
    [
      'a rate of zero',
      { ...stored(), memory: { ...stored().memory, bytesPerSecond: 0 } },
      'file.json: memory.bytesPerSecond: expected a number from 1 to',
    ],
    [
      'a missing number',
      { ...stored(), operators: { ...stored().operators, matmul: {} } },
      'file.json: operators.matmul.flopsPerSecond: expected a number',
    ],
    ['a group beyond the device', { ...stored(), smallestGroup: 101 }, 'more than the 100 units'],
  ])('are refused with %s', (_, value, message) => {
    expect(() => parseConstants(value, 'file.json')).toThrow(message);
  });
});

describe('presets', () => {
  it.each(presetNames)('%s is valid', (name) => {
    const constants = preset(name);
    expect(parseConstants(JSON.parse(JSON.stringify(constants)), name)).toEqual(constants);
  });

  it('have the units of their devices', () => {
    const units = presetNames.map((name) => preset(name).units);
    expect(units).toEqual([132, 132, 108, 142, 128, 92, 1]);
  });

  it('are found by the device, and scaled to it', () => {
    const find = (name: string, units: number) =>
      presetFor({ kind: 'cuda', name, isa: 'sm_90a', units }, 'bf16');
    expect(find('NVIDIA H200', 132)).toEqual(preset('h200'));
    expect(find('NVIDIA GeForce RTX 4090', 128)).toEqual(preset('rtx4090'));
    expect(find('NVIDIA L40S', 142)).toEqual(preset('l40s'));
    expect(find('NVIDIA L20', 92)).toEqual(preset('l20'));
    expect(find('Some GPU', 54)).toEqual(withUnits(preset('a100'), 54));
    expect(find('NVIDIA H100 PCIe', 66).operators.matmul.flopsPerSecond).toBeCloseTo(
      preset('h100').operators.matmul.flopsPerSecond / 2,
      0,
    );
  });

  it('of a processor grow with its cores and its instruction set', () => {
    const matmul = (cores: number, isa: string) =>
      cpuPreset(cores, isa, 'int8').operators.matmul.flopsPerSecond;
    expect(matmul(8, 'amx')).toBe(8 * matmul(1, 'amx'));
    expect(matmul(1, 'amx')).toBeGreaterThan(matmul(1, 'avx512'));
    expect(matmul(1, 'avx2')).toBeGreaterThan(matmul(1, 'portable'));
    expect(matmul(1, 'unheard of')).toBe(matmul(1, 'portable'));
    // A socket's memory does not.
    const memory = (cores: number) => cpuPreset(cores, 'amx', 'int8').memory.bytesPerSecond;
    expect(memory(2)).toBe(2 * memory(1));
    expect(memory(64)).toBe(memory(16));
  });

  it('foresee on an H200 what weights and bandwidth allow', () => {
    // Llama-3.1-8B in bf16, one sequence: 15 GB of weights in 4.8 TB/s are 3.1 ms at the very best.
    const spec = {
      ...tinySpec,
      layers: 32,
      hidden: 4096,
      heads: 32,
      kvHeads: 8,
      headDim: 128,
      ffn: 14336,
      vocab: 128256,
    };
    const load = new StepLoad();
    load.addDecode(1000, 131072);
    const seconds = new CostModel(modelWork(spec, 'bf16'), preset('h200'), 132).alone(load, 132);
    expect(seconds).toBeGreaterThan(0.0031);
    expect(seconds).toBeLessThan(0.005);
  });
});

describe("a model's work", () => {
  it('counts packed weights with their scales, and the head by itself', () => {
    const weights = 2 * (128 * 256 + 128 * 128 + 3 * 128 * 256);
    expect(modelWork(tinySpec, 'bf16').layerBytes).toBe(weights * 2);
    expect(modelWork(tinySpec, 'int8').layerBytes).toBe(weights * (1 + 4 / 128));
    expect(modelWork(tinySpec, 'int4').layerBytes).toBe(weights * (4.5 / 8));
    expect(modelWork(tinySpec, 'bf16').headBytes).toBe(2 * 128 * 1000);
    expect(modelWork(tinySpec, 'int8').headFlops).toBe(2 * 128 * 1000);
  });
});

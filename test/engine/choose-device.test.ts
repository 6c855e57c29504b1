import { describe, expect, it } from 'vitest';
import { EngineSettings, ModelSettings } from '../../config/schema.js';
import { chooseDevice } from '../../engine/choose-device.js';
import { kernelsRunOn } from '../../engine/device/cuda-kernels.js';
import type { CudaDevice, CudaInfo } from '../../engine/device/native.js';
import { checkFits } from '../../engine/gpu-memory.js';

const gpu: CudaDevice = {
  name: 'NVIDIA X',
  computeCapability: '9.0',
  memoryBytes: 80 * 2 ** 30,
  l2Bytes: 50 * 2 ** 20,
  sms: 132,
  smallestGroup: 8,
  problem: '',
  whyNoSplit: '',
};
const usable: CudaInfo = {
  built: true,
  architectures: ['90a'],
  driverVersion: '13.0',
  runtimeVersion: '13.0',
  problem: '',
  devices: [gpu],
};
const noDriver: CudaInfo = {
  ...usable,
  driverVersion: '',
  problem: 'there is no NVIDIA driver',
  devices: [],
};

const choose = (settings: Partial<EngineSettings>, info: CudaInfo) =>
  chooseDevice(EngineSettings.parse(settings), () => info);

describe('the choice of a device', () => {
  it('takes a GPU where one can be used, and says why where it cannot', () => {
    expect(choose({}, usable)).toMatchObject({ kind: 'cuda', gpu: 0, memoryFraction: 0.9, notes: [] });
    expect(choose({}, noDriver)).toEqual({ kind: 'cpu', notes: [] });
    const unbuilt = choose({}, { ...usable, architectures: [] });
    expect(unbuilt).toMatchObject({ kind: 'cpu', notes: [expect.stringContaining('without CUDA kernels')] });
    const foreign = choose({}, { ...usable, architectures: ['89'] });
    expect(foreign).toMatchObject({
      kind: 'cpu',
      notes: [expect.stringMatching(/built for 8\.9.*capability 9\.0/)],
    });
  });

  it('asks nothing of CUDA where the processor is asked for', () => {
    const ask = () => {
      throw new Error('CUDA was looked for');
    };
    for (const settings of [{ device: 'cpu' }, { cores: 2 }, { isa: 'avx2' }] as const) {
      const engine = EngineSettings.parse(settings);
      expect(chooseDevice(engine, ask)).toEqual({ kind: 'cpu', notes: [] });
    }
  });

  it('takes the GPU and the part of its memory that are named', () => {
    const two = { ...usable, devices: [gpu, { ...gpu, name: 'NVIDIA Y' }] };
    expect(choose({ gpu: 1, gpuMemoryFraction: 0.5 }, two)).toMatchObject({
      kind: 'cuda',
      gpu: 1,
      found: { name: 'NVIDIA Y' },
      memoryFraction: 0.5,
    });
    expect(() => choose({ gpu: 2 }, two)).toThrow('there is no GPU 2, only 0 (NVIDIA X), 1 (NVIDIA Y)');
  });

  it.each<[string, Partial<CudaInfo>, RegExp]>([
    ['no headers of CUDA', { built: false }, /built without CUDA kernels.*npm run setup/],
    ['no driver', noDriver, /no GPU to compute on \(there is no NVIDIA driver\)/],
    [
      'an old driver',
      { devices: [], problem: 'the driver knows CUDA 12.2 and is too old for 13.0: install a newer one' },
      /too old for 13\.0: install a newer one/,
    ],
    [
      'an old GPU',
      { devices: [{ ...gpu, problem: 'compute capability 7.5; the kernels need 8.0' }] },
      /7\.5/,
    ],
    ['kernels of another GPU', { architectures: ['89'] }, /built for 8\.9.*9\.0: delete build\/native/],
  ])('refuses --device cuda with %s', (_, changes, message) => {
    expect(() => choose({ device: 'cuda' }, { ...usable, ...changes })).toThrow(message);
  });

  it('refuses settings that would do nothing, by name', () => {
    expect(() => choose({ device: 'cuda', cores: 4 }, usable)).toThrow(/^--cores 4 .*leave one away/);
    expect(() => choose({ device: 'cuda', isa: 'amx' }, usable)).toThrow(/^--isa amx /);
    expect(() => choose({ device: 'cpu', gpu: 0 }, usable)).toThrow(/^--gpu 0 /);
    expect(() => choose({ device: 'cpu', gpuMemoryFraction: 0.5 }, usable)).toThrow(
      /^--gpu-memory-fraction /,
    );
    expect(() => choose({ cores: 4, gpu: 0 }, usable)).toThrow(/--cores 4.*--gpu 0/);
  });

  it('takes every form of the KV cache to a GPU', () => {
    for (const kv of ['exact', 'int8', 'int4', 'int2', 'zip', 'pack'] as const) {
      expect(choose({ device: 'cuda', kv }, usable)).toMatchObject({ kind: 'cuda', notes: [] });
    }
    for (const kvPressure of ['int8', 'int4', 'zip', 'pack'] as const) {
      expect(choose({ kvPressure }, usable)).toMatchObject({ kind: 'cuda', notes: [] });
    }
    expect(choose({ gpu: 0, prefillTau: 0.9 }, usable)).toMatchObject({ kind: 'cuda', notes: [] });
  });

  it('says that lanes share a GPU that cannot be split by priority', () => {
    const slice = { ...gpu, whyNoSplit: 'a MIG slice is not split further' };
    const { notes } = choose({ device: 'cuda' }, { ...usable, devices: [slice] });
    expect(notes).toEqual([
      'prefill and decode share NVIDIA X by priority and not by SMs: a MIG slice is not split further',
    ]);
  });
});

describe('kernels', () => {
  it.each([
    [['90a'], '9.0', true],
    [['90a'], '10.0', false],
    [['89'], '8.9', true],
    [['89'], '8.6', false],
    [['86'], '8.9', true],
    [['80'], '8.6', true],
    // 8.0 brings PTX.
    [['80'], '12.0', true],
    [['90a', '89', '80'], '7.5', false],
  ])('for %j run on %s: %s', (architectures, computeCapability, runs) => {
    expect(kernelsRunOn(architectures, computeCapability)).toBe(runs);
  });
});

describe('memory of a GPU', () => {
  const settings = (weights: ModelSettings['weights'], engine: Partial<EngineSettings> = {}) => ({
    model: ModelSettings.parse({ weights }),
    engine: EngineSettings.parse(engine),
  });
  const weightBytes = 75 * 2 ** 30;

  it('holds what fits into the part that may be used', () => {
    expect(() => checkFits({ weightBytes, kvBytes: 0 }, settings('bf16'), gpu, 0.95)).not.toThrow();
  });

  it('is too small with a reason and what to lower', () => {
    expect(() => checkFits({ weightBytes, kvBytes: 0 }, settings('bf16'), gpu, 0.9)).toThrow(
      '75.0 GiB of bf16 weights do not fit NVIDIA X, where Tandem may use 72.0 GiB of 80.0 GiB ' +
        '(--gpu-memory-fraction 0.9): take smaller weights (--weights int8) or a smaller model',
    );
    const kvMemory = 10 * 2 ** 30;
    expect(() =>
      checkFits({ weightBytes: 70 * 2 ** 30, kvBytes: kvMemory }, settings('int4', { kvMemory }), gpu, 0.9),
    ).toThrow(/10\.0 GiB of KV cache do not fit.*take a smaller --kv-memory or a smaller model/);
  });
});

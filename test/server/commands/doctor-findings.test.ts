import { describe, expect, it } from 'vitest';
import type { CudaDevice } from '../../../engine/index.js';
import type { Facts, ModelFacts } from '../../../server/commands/doctor-facts.js';
import { type Finding, judge } from '../../../server/commands/doctor-findings.js';

const model: ModelFacts = {
  folder: 'models/demo',
  family: 'llama',
  parameters: 5_300_000,
  weightBytes: 6_000_000,
  weights: 'int8',
  visionBytes: 0,
  contextLength: 2048,
  vocab: 2048,
  chatTemplate: true,
};

const healthy: Facts = {
  nodeVersion: '20.1.0',
  platform: 'linux-x64',
  cpuName: 'Some Processor',
  cores: 8,
  memoryTotalBytes: 32 * 2 ** 30,
  memoryFreeBytes: 16 * 2 ** 30,
  hugePages: 'madvise',
  isas: ['avx512', 'avx2', 'portable'],
  forcedIsa: undefined,
  isPacked: false,
  tools: { cmake: '3.25.1', compiler: '12.2.0', ninja: undefined, make: '4.3', nvcc: undefined },
  gpu: { driverVersion: undefined, names: [] },
  cuda: {
    built: true,
    architectures: [],
    driverVersion: '',
    runtimeVersion: '13.0',
    problem: 'no driver',
    devices: [],
  },
  device: { kind: 'cpu', notes: [] },
  model,
};

function find(facts: Partial<Facts>, subject: string): Finding {
  return judge({ ...healthy, ...facts }).find((finding) => finding.subject === subject)!;
}

describe('doctor', () => {
  it('finds nothing to mend on a healthy machine', () => {
    expect(judge(healthy).every(({ level }) => level === 'ok')).toBe(true);
  });

  it('gives advice with everything that is not well', () => {
    const ill = judge({
      ...healthy,
      nodeVersion: '18.0.0',
      memoryFreeBytes: 1000,
      hugePages: 'never',
      isas: new Error('tandem.node is missing'),
      tools: { cmake: undefined, compiler: undefined, ninja: undefined, make: undefined, nvcc: undefined },
      gpu: { driverVersion: '580.1', names: ['A GPU, 1 MiB'] },
    });
    const notWell = ill.filter(({ level }) => level !== 'ok');
    expect(notWell.map(({ subject }) => subject)).toEqual([
      'Node.js',
      'instruction set',
      'memory',
      'huge pages',
      'CMake',
      'C++ compiler',
      'build tool',
      'CUDA',
    ]);
    for (const { advice, subject } of notWell) expect(advice, subject).toBeTruthy();
  });

  it('asks for no tools to build with where there is nothing to build', () => {
    const tools = { ...healthy.tools, cmake: undefined };
    expect(find({ tools }, 'CMake').level).toBe('hint');
    expect(judge({ ...healthy, tools, isPacked: true }).every(({ level }) => level === 'ok')).toBe(true);
  });

  it('names the GPUs of the driver', () => {
    const finding = find({ gpu: { driverVersion: '580.1', names: ['NVIDIA X, 80000 MiB'] } }, 'GPU');
    expect(finding).toMatchObject({ level: 'ok', found: 'NVIDIA X, 80000 MiB, driver 580.1' });
  });

  describe('of CUDA', () => {
    const device = {
      name: 'NVIDIA X',
      computeCapability: '9.0',
      memoryBytes: 80 * 2 ** 30,
      l2Bytes: 50 * 2 ** 20,
      sms: 132,
      smallestGroup: 8,
      problem: '',
      whyNoSplit: '',
    };
    const withDevice = (changes: Partial<typeof device>): Finding =>
      find({ cuda: { ...found, devices: [{ ...device, ...changes }] } }, 'CUDA');
    const found = {
      built: true,
      architectures: ['90a'],
      driverVersion: '13.0',
      runtimeVersion: '13.0',
      problem: '',
      devices: [],
    };

    it('says nothing where there is neither a GPU nor a driver', () => {
      expect(judge(healthy).some(({ subject }) => subject === 'CUDA')).toBe(false);
    });

    it('names a device with its SMs and groups', () => {
      const finding = withDevice({});
      expect(finding.level).toBe('ok');
      expect(finding.found).toBe(
        'NVIDIA X, 132 SMs, 80.0 GiB, compute capability 9.0, driver for CUDA 13.0, kernels for 9.0, ' +
          'green contexts from 8 SMs on',
      );
    });

    it('says why lanes cannot split a device, and why one cannot be used', () => {
      expect(withDevice({ whyNoSplit: 'a MIG slice is not split further' })).toMatchObject({
        level: 'hint',
        found: expect.stringContaining('no green contexts: a MIG slice'),
      });
      expect(withDevice({ problem: 'compute capability 7.5; the kernels need 8.0' })).toMatchObject({
        level: 'hint',
        advice: expect.stringContaining('need 8.0'),
      });
      const unbuilt = { ...found, architectures: [], devices: [device] };
      expect(find({ cuda: unbuilt }, 'CUDA').advice).toContain('npm run setup');
    });

    it('says what is missing where nvidia-smi sees a GPU that the addon does not', () => {
      const gpu = { driverVersion: '580.1', names: ['NVIDIA X, 80000 MiB'] };
      const cuda = { ...found, built: false, driverVersion: '', problem: 'this build found no CUDA toolkit' };
      expect(find({ gpu, cuda }, 'CUDA').advice).toContain('install the CUDA toolkit');
      expect(find({ gpu, cuda: { ...cuda, built: true } }, 'CUDA').advice).toContain('/dev/nvidia');
    });
  });

  it('says what would be computed on, and compares the weights with the memory of a GPU', () => {
    expect(find({}, 'computes on')).toMatchObject({ level: 'ok', found: 'the processor' });
    const gpu = { name: 'NVIDIA X', memoryBytes: 20 * 2 ** 30 } as CudaDevice;
    const device = { kind: 'cuda', gpu: 0, found: gpu, memoryFraction: 0.9, notes: [] } as const;
    expect(find({ device }, 'computes on')).toMatchObject({
      level: 'ok',
      found: 'GPU 0, NVIDIA X, up to 18.0 GiB of it',
    });
    const big = { ...model, weightBytes: 19 * 2 ** 30 };
    // The weights are not in the memory of the processor then.
    expect(find({ device, model: big }, 'memory').level).toBe('ok');
    expect(find({ device, model: big }, 'computes on')).toMatchObject({
      level: 'problem',
      found: expect.stringContaining('the weights need 19.0 GiB as int8'),
    });
    const refused = find(
      { device: new Error('--device cuda: there is no GPU to compute on') },
      'computes on',
    );
    expect(refused).toMatchObject({ level: 'problem', found: expect.stringContaining('there is no GPU') });
  });

  it('refuses a forced instruction set that is not there', () => {
    expect(find({ forcedIsa: 'amx' }, 'instruction set')).toMatchObject({ level: 'problem' });
    expect(find({ forcedIsa: 'avx2' }, 'instruction set')).toMatchObject({ level: 'ok' });
  });

  it('compares the weights with the free memory and names what is smaller', () => {
    const big = { ...model, weightBytes: 20 * 2 ** 30 };
    expect(find({ model: big }, 'memory')).toMatchObject({ level: 'problem' });
    expect(find({ model: big }, 'memory').advice).toContain('--weights int4');
    expect(find({ model: { ...big, weights: 'int4' } }, 'memory').advice).toBe('take a smaller model');
  });

  it('counts the vision tower as what the processor holds, also beside a GPU', () => {
    const reader = { ...model, weightBytes: 10 * 2 ** 30, visionBytes: 8 * 2 ** 30 };
    expect(find({ model: reader }, 'memory').found).toContain('the weights need 18.0 GiB');
    const gpu = { name: 'NVIDIA X', memoryBytes: 20 * 2 ** 30 } as CudaDevice;
    const device = { kind: 'cuda', gpu: 0, found: gpu, memoryFraction: 0.9, notes: [] } as const;
    expect(find({ device, model: reader }, 'memory').level).toBe('ok');
    expect(find({ device, model: { ...reader, visionBytes: 17 * 2 ** 30 } }, 'memory').level).toBe('problem');
    expect(find({ model: reader }, 'model').found).toContain('10.0 GiB as int8, and 8.0 GiB to read images');
    expect(find({}, 'model').found).not.toContain('images');
  });

  it('says whether images can be decoded where the model reads them', () => {
    expect(find({}, 'images')).toBeUndefined();
    const found = (imageDecoder: string | Error) => find({ model: { ...model, imageDecoder } }, 'images');
    expect(found('sharp 1.2.3')).toMatchObject({ level: 'ok', found: 'decoded by sharp 1.2.3' });
    expect(found(new Error('it is gone'))).toMatchObject({
      level: 'hint',
      found: 'cannot be read: it is gone',
    });
  });

  it("passes a model's fault on and misses its chat template", () => {
    expect(find({ model: new Error('x.safetensors: truncated') }, 'model')).toMatchObject({
      level: 'problem',
      found: 'x.safetensors: truncated',
    });
    expect(find({ model: { ...model, chatTemplate: false } }, 'chat template')).toMatchObject({
      level: 'hint',
    });
  });
});

import { describe, expect, it } from 'vitest';
import type { Facts, ModelFacts } from '../../../server/commands/doctor-facts.js';
import { type Finding, judge } from '../../../server/commands/doctor-findings.js';

const model: ModelFacts = {
  folder: 'models/demo',
  family: 'llama',
  parameters: 5_300_000,
  weightBytes: 6_000_000,
  weights: 'int8',
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
  tools: { cmake: '3.25.1', compiler: '12.2.0', ninja: undefined, make: '4.3', nvcc: undefined },
  gpu: { driverVersion: undefined, names: [] },
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
      'GPU',
    ]);
    for (const { advice, subject } of notWell) expect(advice, subject).toBeTruthy();
  });

  it('says plainly that a GPU is not used', () => {
    const finding = find({ gpu: { driverVersion: '580.1', names: ['NVIDIA X, 80000 MiB'] } }, 'GPU');
    expect(finding).toMatchObject({ level: 'hint', found: 'NVIDIA X, 80000 MiB, driver 580.1' });
    expect(finding.advice).toContain('no CUDA backend');
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

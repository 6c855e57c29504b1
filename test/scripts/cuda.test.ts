import { describe, expect, it } from 'vitest';
import { importScript } from './support.js';

const { kernelFlags } = await importScript('cuda.mjs');

describe('building the kernels', () => {
  const machine = { wish: undefined, nvcc: '13.0', hasGpu: true, computeCapability: '9.0' };
  const architectures = (changes: object) =>
    kernelFlags({ ...machine, ...changes }).map((flag: string) => flag.split('ARCHITECTURES=')[1]);

  it('needs a GPU or the wish, and nvcc 13', () => {
    expect(kernelFlags({ ...machine, hasGpu: false })).toEqual([]);
    expect(kernelFlags({ ...machine, nvcc: undefined })).toEqual([]);
    expect(kernelFlags({ ...machine, nvcc: '12.8' })).toEqual([]);
    expect(kernelFlags({ ...machine, wish: '0' })).toEqual([]);
    expect(kernelFlags({ ...machine, hasGpu: false, computeCapability: undefined, wish: '1' })).toEqual([
      '-DTANDEM_CUDA_KERNELS=ON',
      '-UTANDEM_CUDA_ARCHITECTURES',
    ]);
  });

  it("is for the GPU's own architecture where that is known, or for those that are named", () => {
    expect(kernelFlags(machine)).toEqual(['-DTANDEM_CUDA_KERNELS=ON', '-DTANDEM_CUDA_ARCHITECTURES=90a']);
    expect(architectures({ computeCapability: '8.9' })).toContain('89');
    // Code of 8.0 runs on 8.6, and its PTX on what came later.
    expect(architectures({ computeCapability: '8.6' })).toContain('80');
    expect(architectures({ computeCapability: '12.0' })).toContain('80');
    expect(architectures({ wish: '90a,80', hasGpu: false })).toContain('90a;80');
  });
});

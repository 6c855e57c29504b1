import type { CudaDevice, CudaInfo } from './addon.js';

/**
 * Whether kernels that were compiled for these architectures run on a device: `90a` is for 9.0 alone, other code for its
 * own generation from its version on, and 8.0 brings PTX, which a driver translates for whatever came later
 * (native/cuda/CMakeLists.txt).
 */
export function kernelsRunOn(architectures: readonly string[], computeCapability: string): boolean {
  const [major = 0, minor = 0] = computeCapability.split('.').map(Number);
  return architectures.some((architecture) => {
    const version = Number.parseInt(architecture, 10);
    if (architecture.endsWith('a')) return version === major * 10 + minor;
    if (architecture === '80') return major >= 8;
    return Math.floor(version / 10) === major && version % 10 <= minor;
  });
}

/** Why Tandem cannot compute on this GPU, and what to do about it; undefined where it can. */
export function whyNotOn({ built, architectures }: CudaInfo, device: CudaDevice): string | undefined {
  if (device.problem !== '') return device.problem;
  if (!built || architectures.length === 0) return howToBuild;
  if (kernelsRunOn(architectures, device.computeCapability)) return undefined;
  const names = architectures.map(architectureName).join(', ');
  return (
    `the kernels were built for ${names}, and it has compute capability ${device.computeCapability}: ` +
    'delete build/native and run "npm run setup" on this machine'
  );
}

export const howToBuild =
  'the addon was built without CUDA kernels: install the CUDA toolkit 13.0 or newer and run "npm run setup"';

/** `90a` as a person reads it: 9.0. */
export function architectureName(architecture: string): string {
  const version = Number.parseInt(architecture, 10);
  return `${Math.floor(version / 10)}.${version % 10}`;
}

import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import process from 'node:process';
import { findVersion } from './requirements.mjs';

const leastNvcc = 13;

/**
 * What of CUDA matters to the build of the addon.
 * @typedef {object} CudaTools
 * @property {string | undefined} wish `TANDEM_CUDA`: 1 to build kernels without a GPU, 0 never to, or architectures as 90a,80
 * @property {string | undefined} nvcc its version
 * @property {boolean} hasGpu
 * @property {string | undefined} computeCapability of the first GPU, as 9.0; undefined where the driver does not say
 */

/** @returns {CudaTools} */
export function findCuda() {
  const wish = process.env.TANDEM_CUDA;
  const hasGpu = hasDeviceFile();
  // Each program that is started here is started before every command, so only where it may matter.
  const matters = wish !== '0' && (hasGpu || Boolean(wish));
  return {
    wish,
    nvcc: matters ? findNvcc() : undefined,
    hasGpu,
    computeCapability: hasGpu && matters ? readComputeCapability() : undefined,
  };
}

/**
 * CMake's flags that build the kernels; none where they are of no use or cannot be built: a machine without a GPU must not
 * wait minutes for nvcc.
 * @param {CudaTools} tools
 * @returns {string[]}
 */
export function kernelFlags({ wish, nvcc, hasGpu, computeCapability }) {
  if (wish === '0' || !(hasGpu || wish)) return [];
  if (nvcc === undefined || Number.parseInt(nvcc, 10) < leastNvcc) return [];
  const chosen = wish && wish !== '1' ? wish.replaceAll(',', ';') : architectureFor(computeCapability);
  // Without one it is said too: CMake remembers what it was told before.
  const architectures = chosen ? `-DTANDEM_CUDA_ARCHITECTURES=${chosen}` : '-UTANDEM_CUDA_ARCHITECTURES';
  return ['-DTANDEM_CUDA_KERNELS=ON', architectures];
}

/** One architecture builds three times as fast as all; those that have no code of their own take the PTX of 8.0. */
function architectureFor(computeCapability) {
  const known = { '9.0': '90a', 8.9: '89', '8.0': '80' };
  if (computeCapability === undefined) return undefined;
  return known[computeCapability] ?? '80';
}

function hasDeviceFile() {
  try {
    return (
      readdirSync('/dev').some((name) => /^nvidia\d+$/.test(name)) || readdirSync('/dev').includes('dxg')
    );
  } catch {
    return false;
  }
}

/** CMake finds nvcc on the path, or where the toolkit's installer puts it. */
function findNvcc() {
  for (const name of ['nvcc', '/usr/local/cuda/bin/nvcc']) {
    const { status, stdout } = spawnSync(name, ['--version'], { encoding: 'utf8' });
    const version = status === 0 ? /release (\d+\.\d+)/.exec(stdout)?.[1] : undefined;
    if (version !== undefined) return version;
  }
  return undefined;
}

function readComputeCapability() {
  return findVersion('nvidia-smi', ['--query-gpu=compute_cap', '--format=csv,noheader']);
}

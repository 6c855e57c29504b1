import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { availableParallelism, freemem, totalmem } from 'node:os';
import path from 'node:path';
import { packageRoot } from '../../config/package-root.js';
import { processorName } from '../../config/processor-name.js';
import type { EngineSettings } from '../../config/schema.js';
import {
  type CudaInfo,
  chooseDevice,
  type DeviceChoice,
  openChatTemplate,
  openTokenizer,
  packedWeightBytes,
  readCheckpoint,
  visionWeightBytes,
} from '../../engine/index.js';
import { loadDecoder } from '../images/decoder.js';

/** What `doctor` looked at, as it found it; `doctor-findings.ts` judges it. */
export interface Facts {
  readonly nodeVersion: string;
  readonly platform: string;
  readonly cpuName: string;
  readonly cores: number;
  readonly memoryTotalBytes: number;
  readonly memoryFreeBytes: number;
  /** The kernel's setting, `always`, `madvise` or `never`; undefined where there is none. */
  readonly hugePages: string | undefined;
  /** Best first; an Error where the addon could not be loaded. */
  readonly isas: readonly string[] | Error;
  readonly forcedIsa: string | undefined;
  /** A copy that scripts/pack.mjs made: it has nothing to build. */
  readonly isPacked: boolean;
  /** Versions of tools that were found. */
  readonly tools: Readonly<Record<'cmake' | 'compiler' | 'ninja' | 'make' | 'nvcc', string | undefined>>;
  readonly gpu: GpuFacts;
  /** What the addon finds of CUDA; an Error where the addon could not be loaded. */
  readonly cuda: CudaInfo | Error;
  /** What the settings would compute on; an Error that says why they cannot be followed. */
  readonly device: DeviceChoice | Error;
  readonly model: ModelFacts | Error;
}

export interface GpuFacts {
  readonly driverVersion: string | undefined;
  /** "NVIDIA H200, 143771 MiB" */
  readonly names: readonly string[];
}

export interface ModelFacts {
  readonly folder: string;
  readonly family: string;
  readonly parameters: number;
  /** What the weights will take in memory in the chosen class. */
  readonly weightBytes: number;
  readonly weights: string;
  /** What the vision tower will take in the processor's memory; 0 without one. */
  readonly visionBytes: number;
  /** What decodes images, where the model reads them; an Error where it does not load. */
  readonly imageDecoder?: string | Error;
  readonly contextLength: number;
  readonly vocab: number;
  readonly chatTemplate: boolean;
}

export interface ModelQuestion {
  readonly path: string;
  readonly weights: 'bf16' | 'int8' | 'int4';
  readonly chatTemplate?: string | undefined;
}

export async function gatherFacts(
  question: ModelQuestion,
  isas: () => readonly string[],
  cuda: () => CudaInfo,
  engine: EngineSettings,
): Promise<Facts> {
  return {
    nodeVersion: process.versions.node,
    platform: `${process.platform}-${process.arch}`,
    cpuName: processorName(),
    cores: availableParallelism(),
    memoryTotalBytes: totalmem(),
    memoryFreeBytes: freemem(),
    hugePages: readHugePages(),
    isas: attempt(isas),
    forcedIsa: engine.isa,
    isPacked: existsSync(path.join(packageRoot, 'PACKED')),
    tools: {
      cmake: versionOf('cmake'),
      compiler: versionOf('c++') ?? versionOf('g++') ?? versionOf('clang++'),
      ninja: versionOf('ninja'),
      make: versionOf('make'),
      nvcc: versionOf('nvcc'),
    },
    gpu: readGpu(),
    cuda: attempt(cuda),
    device: attempt(() => chooseDevice(engine, cuda)),
    model: await readModel(question).catch(asError),
  };
}

async function readModel(question: ModelQuestion): Promise<ModelFacts> {
  const checkpoint = await readCheckpoint(question.path);
  await openTokenizer(question.path);
  const template = await openChatTemplate(question.path, question.chatTemplate);
  const all = [...checkpoint.tensors, ...checkpoint.visionTensors];
  const parameters = all.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
  const visionBytes = visionWeightBytes(checkpoint);
  return {
    folder: question.path,
    family: checkpoint.spec.family,
    parameters,
    weightBytes: packedWeightBytes(checkpoint, question.weights),
    weights: question.weights,
    visionBytes,
    ...(visionBytes > 0 && { imageDecoder: await nameDecoder().catch(asError) }),
    contextLength: checkpoint.spec.contextLength,
    vocab: checkpoint.spec.vocab,
    chatTemplate: template !== null,
  };
}

async function nameDecoder(): Promise<string> {
  const { versions } = await loadDecoder();
  return `sharp ${versions.sharp}, libvips ${versions.vips}`;
}

function versionOf(tool: string): string | undefined {
  const { status, stdout } = spawnSync(tool, ['--version'], { encoding: 'utf8' });
  if (status !== 0) return undefined;
  return /\d+(?:\.\d+)+/.exec(stdout)?.[0] ?? 'unknown version';
}

function readGpu(): GpuFacts {
  const driverFile = '/proc/driver/nvidia/version';
  const driver = existsSync(driverFile) ? readFileSync(driverFile, 'utf8') : '';
  const query = ['--query-gpu=name,memory.total', '--format=csv,noheader'];
  const { status, stdout } = spawnSync('nvidia-smi', query, { encoding: 'utf8', timeout: 10_000 });
  return {
    driverVersion: /\d+\.\d+(?:\.\d+)?/.exec(driver)?.[0],
    names: status === 0 ? stdout.trim().split('\n').filter(Boolean) : [],
  };
}

function readHugePages(): string | undefined {
  const file = '/sys/kernel/mm/transparent_hugepage/enabled';
  return existsSync(file) ? /\[(\w+)\]/.exec(readFileSync(file, 'utf8'))?.[1] : undefined;
}

function attempt<T>(read: () => T): T | Error {
  try {
    return read();
  } catch (error) {
    return asError(error);
  }
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}

import { readdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import type { EngineSettings } from '../../config/schema.js';

type Isa = NonNullable<EngineSettings['isa']>;

/** llama.cpp's builds for x86-64 processors, by the instruction set of ours that each may use in full. */
const builds: Readonly<Record<Isa, string>> = {
  amx: 'sapphirerapids',
  avx512: 'cooperlake',
  'avx512-vnni': 'icelake',
  'avx-vnni': 'alderlake',
  avx2: 'haswell',
  portable: 'x64',
};

/** Deletes all of llama.cpp's builds below `prefix` but that for `isa`: it would take the best that it finds. */
export function keepBuild(prefix: string, isa: Isa): void {
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    throw new Error('--isa: llama.cpp comes in a build for each instruction set only for Linux on x86-64');
  }
  const folder = path.join(prefix, 'node_modules/@node-llama-cpp/linux-x64/bins/linux-x64');
  const wanted = `libggml-cpu-${builds[isa]}.so`;
  const there = readdirSync(folder).filter((name) => name.startsWith('libggml-cpu-'));
  if (!there.includes(wanted)) throw new Error(`${folder} has no ${wanted}`);
  for (const name of there) if (name !== wanted) rmSync(path.join(folder, name));
}

import { existsSync, readFileSync, realpathSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism, totalmem } from 'node:os';
import path from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { outputsAreMissing, removeStaleOutputs } from './compiled.mjs';
import { findCuda, kernelFlags } from './cuda.mjs';
import { Step } from './freshness.mjs';
import { withLock } from './lock.mjs';
import { packagesAreInstalled } from './packages.mjs';
import { inRoot, root } from './paths.mjs';
import { Report } from './report.mjs';
import { checkCpp20, checkNativeTools, checkNode, MissingTool } from './requirements.mjs';
import { runTool, ToolFailed } from './run-tool.mjs';

const require = createRequire(import.meta.url);

/** Folders that are compiled to run; `test/` is only checked. */
const compiledFolders = ['config', 'engine', 'server', 'loadtest'];

const typescript = (folders, stamp) =>
  new Step({
    root,
    stamp,
    inputs: [...folders, 'tsconfig.json', 'tsconfig.base.json', 'package-lock.json'],
    pattern: /\.(ts|json)$/,
    outputs: ['dist/server/commands/serve.js'],
  });

const cudaFlags = kernelFlags(findCuda());
const nativeFlags = cudaFlags.length > 0 ? cudaFlags : ['-DTANDEM_CUDA_KERNELS=OFF'];

const addonStep = new Step({
  root,
  stamp: 'build/stamps/addon',
  inputs: ['native', 'package-lock.json'],
  pattern: /\.(cc|h|cu|cuh|txt|cmake)$/,
  outputs: ['build/native/tandem.node'],
  salt: [process.env.CXX ?? '', ...cudaFlags].join(' '),
});

const nativeTestsStep = new Step({
  root,
  stamp: 'build/stamps/native-tests',
  inputs: ['native', 'test/native'],
  pattern: /\.(cc|h|cu|cuh|txt|cmake)$/,
  outputs: ['build/native/test/tandem-tests'],
  salt: [process.env.CXX ?? '', ...cudaFlags].join(' '),
});

/**
 * Installs and builds what is missing or stale, and nothing else.
 * @param {{ tests?: boolean }} options `tests`: also check the tests' types and build the native tests
 */
export async function setup({ tests = false } = {}) {
  checkNode();
  // A copy that was packed to run elsewhere (scripts/pack.mjs) has nothing to build from.
  if (existsSync(inRoot('PACKED'))) return;
  const compile = tests
    ? typescript([...compiledFolders, 'test'], 'build/stamps/typescript-tests')
    : typescript(compiledFolders, 'build/stamps/typescript');
  const isFresh = () =>
    packagesAreInstalled(root, { dev: tests }) &&
    compile.isFresh() &&
    !outputsAreMissing(root, compiledFolders) &&
    addonStep.isFresh() &&
    (!tests || nativeTestsStep.isFresh());
  if (isFresh()) return;

  const report = new Report();
  const onWait = () => process.stderr.write('tandem: waiting for another set-up of this folder to end\n');
  await withLock(inRoot('build/setup.lock'), () => runSteps(compile, tests, report), onWait);
}

/** What needs no package is built while they are installed, and TypeScript beside the rest: none keeps all cores busy. */
async function runSteps(compile, tests, report) {
  const packages = packagesAreInstalled(root, { dev: tests }) ? undefined : installPackages(tests, report);
  await allOrFirstFailure([
    compileTypeScript(packages, compile, tests, report),
    buildNative(packages, tests, report),
  ]);
}

/** As `Promise.all`, but what still runs has ended when it throws: nothing builds on behind a message. */
async function allOrFirstFailure(promises) {
  for (const { status, reason } of await Promise.allSettled(promises)) {
    if (status === 'rejected') throw reason;
  }
}

async function installPackages(tests, report) {
  const args = ['ci', '--no-audit', '--no-fund', '--loglevel=error', ...(tests ? ['--include=dev'] : [])];
  await report.during('installing packages (npm ci)', () => runTool('npm', args, { cwd: root }));
}

/** @param {Promise<void> | undefined} packages settles when those that were missing are installed */
async function compileTypeScript(packages, compile, tests, report) {
  await packages;
  if (compile.isFresh() && !outputsAreMissing(root, compiledFolders)) return;
  const what = tests ? 'compiling TypeScript and checking the tests' : 'compiling TypeScript';
  await report.during(what, () =>
    compile.run(async () => {
      removeStaleOutputs(root, compiledFolders);
      const force = outputsAreMissing(root, compiledFolders) ? ['--force'] : [];
      const projects = tests ? [] : ['server', 'server/web', 'loadtest'];
      const args = [
        require.resolve('typescript/package.json').replace('package.json', 'bin/tsc'),
        '-b',
        ...force,
        ...projects,
      ];
      await runTool(process.execPath, args, { cwd: root });
    }),
  );
}

/**
 * Addon and tests are targets of one build folder, which share the objects of the libraries.
 * @param {Promise<void> | undefined} packages settles when those that were missing are installed
 */
async function buildNative(packages, tests, report) {
  const addon = !addonStep.isFresh();
  const nativeTests = tests && !nativeTestsStep.isFresh();
  if (!addon && !nativeTests) return;
  const { compiler, generator } = checkNativeTools();
  checkCpp20(compiler);
  const flags = nativeTests ? [...nativeFlags, '-DTANDEM_TESTS=ON'] : nativeFlags;
  const build = new NativeBuild(inRoot('build/native'), generator, flags);
  if (packages) {
    await report.during('building the native libraries', (progress) =>
      build.run(['tandem-core', 'tandem-cpu', 'tandem-vision'], ['-DTANDEM_ADDON=OFF'], progress),
    );
    await packages;
  }
  const kernels = addon && cudaFlags.length > 0 ? ' with CUDA kernels' : '';
  const what = [...(addon ? [`addon${kernels}`] : []), ...(nativeTests ? ['tests'] : [])].join(' and ');
  const targets = [...(addon ? ['tandem-addon'] : []), ...(nativeTests ? ['host-tests'] : [])];
  const steps = [...(addon ? [addonStep] : []), ...(nativeTests ? [nativeTestsStep] : [])];
  await report.during(`building the native ${what}`, (progress) =>
    runAsAll(steps, () => build.run(targets, ['-DTANDEM_ADDON=ON'], progress)),
  );
}

/** Runs what takes several steps at once. */
function runAsAll([step, ...others], work) {
  return step ? step.run(() => runAsAll(others, work)) : work();
}

/** A build folder of CMake and the flags that it is configured with. */
class NativeBuild {
  #folder;
  #generator;
  #flags;

  constructor(folder, generator, flags) {
    this.#folder = folder;
    this.#generator = dropForeignCache(folder) ?? generator;
    this.#flags = flags;
  }

  async run(targets, flags, progress) {
    const where = ['-S', inRoot('native'), '-B', this.#folder, '-G', this.#generator];
    const configure = [...where, '-DCMAKE_BUILD_TYPE=Release', ...this.#flags, ...flags];
    await runTool('cmake', configure, { cwd: root });
    const make = ['--build', this.#folder, '--parallel', String(parallelJobs()), '--target', ...targets];
    await runTool('cmake', make, { cwd: root, onLine: (line) => showProgress(line, progress) });
  }
}

/** One job per core, but no more than memory allows: the optimizer takes up to 1 GB on a kernel file. */
function parallelJobs() {
  return Math.max(1, Math.min(availableParallelism(), Math.floor(totalmem() / 2 ** 30)));
}

/**
 * A CMake cache made in another place cannot be used, one made by another generator must be used with it.
 * @returns {string | undefined} the generator of the cache that stays
 */
function dropForeignCache(build) {
  const cache = path.join(build, 'CMakeCache.txt');
  if (!existsSync(cache)) return undefined;
  const text = readFileSync(cache, 'utf8');
  const value = (name) => new RegExp(`^${name}:[A-Z]+=(.*)$`, 'm').exec(text)?.[1];
  const home = value('CMAKE_HOME_DIRECTORY');
  if (home && existsSync(home) && realpathSync(home) === realpathSync(inRoot('native'))) {
    return value('CMAKE_GENERATOR');
  }
  rmSync(build, { recursive: true });
  return undefined;
}

/** Ninja says `[3/40] …`, make says `[ 12%] …`. */
function showProgress(line, progress) {
  const ninja = /^\[(\d+)\/(\d+)\]/.exec(line);
  if (ninja) progress(Number(ninja[1]) / Number(ninja[2]));
  const make = /^\[\s*(\d+)%\]/.exec(line);
  if (make) progress(Number(make[1]) / 100);
}

/** Runs `setup`; on failure says why and ends the process with 1. */
export async function setupOrExit(options) {
  try {
    await setup(options);
  } catch (error) {
    if (error instanceof ToolFailed) {
      process.stderr.write(`${error.output.trimEnd()}\n\ntandem: ${error.message}\n`);
    } else if (error instanceof MissingTool) {
      process.stderr.write(`tandem: ${error.message}\n`);
    } else {
      throw error;
    }
    process.exit(1);
  }
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  await setupOrExit({ tests: process.argv.includes('--tests') });
}

import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import process from 'node:process';

/** Pinned, since a runner uses its internal bindings. */
const version = '3.22.1';

/** The CPU build for each platform; the GPU builds are hundreds of megabytes that no one would use here. */
const platformPackages: Readonly<Record<string, string>> = {
  'linux-x64': '@node-llama-cpp/linux-x64',
  'linux-arm64': '@node-llama-cpp/linux-arm64',
  'darwin-x64': '@node-llama-cpp/mac-x64',
  'darwin-arm64': '@node-llama-cpp/mac-arm64-metal',
  'win32-x64': '@node-llama-cpp/win-x64',
};

/**
 * Puts node-llama-cpp with its prebuilt llama.cpp into `prefix`, outside our dependency tree; no install script runs, and
 * nothing but npm packages is fetched. What is there is kept. Returns its version.
 */
export async function installPeer(prefix: string, onProgress: (line: string) => void): Promise<string> {
  const platform = `${process.platform}-${process.arch}`;
  const platformPackage = platformPackages[platform];
  if (!platformPackage) {
    throw new Error(`node-llama-cpp has no prebuilt llama.cpp for ${platform}: nothing to compare with here`);
  }
  const packages = ['node-llama-cpp', platformPackage];
  if (packages.every((name) => installedVersion(prefix, name) === version)) return version;
  onProgress(`installing node-llama-cpp ${version}`);
  mkdirSync(prefix, { recursive: true });
  // Without it npm would look for a package further up, and find ours.
  const manifest = path.join(prefix, 'package.json');
  if (!existsSync(manifest)) writeFileSync(manifest, '{ "private": true }\n');
  await npm(prefix, [
    'install',
    '--ignore-scripts',
    '--omit=optional',
    '--save-exact',
    '--no-audit',
    '--no-fund',
    '--loglevel=error',
    ...packages.map((name) => `${name}@${version}`),
  ]);
  return version;
}

function installedVersion(prefix: string, name: string): string | undefined {
  const manifest = path.join(prefix, 'node_modules', name, 'package.json');
  if (!existsSync(manifest)) return undefined;
  return (JSON.parse(readFileSync(manifest, 'utf8')) as { version?: string }).version;
}

function npm(folder: string, args: readonly string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const isWindows = process.platform === 'win32';
    const child = spawn(isWindows ? 'npm.cmd' : 'npm', args, {
      cwd: folder,
      shell: isWindows,
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    child.on('error', (error) => reject(new Error(`npm could not be started: ${error.message}`)));
    child.on('exit', (code) => {
      if (code === 0) resolve();
      else reject(new Error(`npm install of node-llama-cpp ended with ${code}; is the registry reachable?`));
    });
  });
}

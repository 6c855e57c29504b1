import { spawnSync } from 'node:child_process';

const minimumNode = 20;
const minimumCmake = [3, 20];

/** A tool that is missing or too old; the message is one sentence that says what to install. */
export class MissingTool extends Error {}

export function checkNode(version = process.versions.node) {
  if (Number.parseInt(version, 10) < minimumNode) {
    throw new MissingTool(
      `Node.js ${minimumNode} or newer is needed and this is ${version}: install it from https://nodejs.org or with nvm.`,
    );
  }
}

/** @returns {{ compiler: string, generator: string }} what to build the addon with. Throws `MissingTool`. */
export function checkNativeTools(find = findVersion) {
  const cmake = find('cmake', ['--version']);
  if (!cmake || isOlder(cmake, minimumCmake)) {
    const found = cmake ? `${cmake} was found` : 'it was not found';
    throw new MissingTool(
      `CMake ${minimumCmake.join('.')} or newer is needed and ${found}: ${installHint('cmake', 'cmake', 'brew install cmake')}.`,
    );
  }
  const compiler = process.env.CXX || ['c++', 'g++', 'clang++'].find((name) => find(name, ['--version']));
  if (!compiler) {
    throw new MissingTool(
      `A C++20 compiler is needed and none was found: ${installHint('g++', 'gcc-c++', 'xcode-select --install')}.`,
    );
  }
  const ninja = find('ninja', ['--version']);
  if (!ninja && !find('make', ['--version'])) {
    throw new MissingTool(
      `make or ninja is needed and neither was found: ${installHint('make', 'make', 'xcode-select --install')}.`,
    );
  }
  return { compiler, generator: ninja ? 'Ninja' : 'Unix Makefiles' };
}

/** Throws `MissingTool` where the compiler does not know the C++20 that the addon is written in. */
export function checkCpp20(compiler) {
  const source = '#include <concepts>\n#include <span>\nint main() { return std::span<int>{}.size(); }\n';
  const result = spawnSync(compiler, ['-std=c++20', '-x', 'c++', '-fsyntax-only', '-'], { input: source });
  if (result.error || result.status !== 0) {
    throw new MissingTool(
      `The C++ compiler ${compiler} cannot compile C++20 (g++ 11, clang 14 or newer can): ${installHint('g++', 'gcc-c++', 'xcode-select --install')}.`,
    );
  }
}

function installHint(debian, fedora, macos) {
  return `sudo apt install ${debian} (Debian, Ubuntu), sudo dnf install ${fedora} (Fedora) or ${macos} (macOS)`;
}

/** The version a tool reports, or undefined where it is not there. */
export function findVersion(name, args) {
  const result = spawnSync(name, args, { encoding: 'utf8' });
  if (result.error || result.status !== 0) return undefined;
  return /\d+(?:\.\d+)+/.exec(result.stdout)?.[0] ?? 'unknown';
}

function isOlder(version, [major, minor]) {
  const [haveMajor = 0, haveMinor = 0] = version.split('.').map(Number);
  return haveMajor < major || (haveMajor === major && haveMinor < minor);
}

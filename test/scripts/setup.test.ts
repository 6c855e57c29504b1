import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { Folder, importScript, root } from './support.js';

const { packagesAreInstalled } = await importScript('packages.mjs');
const { removeStaleOutputs, outputsAreMissing } = await importScript('compiled.mjs');
const { checkNode, checkNativeTools, checkCpp20 } = await importScript('requirements.mjs');
const { missingPlatforms, platformEntry } = await importScript('lock-platforms.mjs');
const { withLock } = await importScript('lock.mjs');

describe('installed packages', () => {
  const lock = (packages: object) => JSON.stringify({ packages: { '': {}, ...packages } });
  const wanted = lock({
    'node_modules/a': { version: '1.0.0' },
    'node_modules/for-tests': { version: '2.0.0', dev: true },
    'node_modules/other-platform': { version: '3.0.0', optional: true },
  });
  const check = (installed: string | undefined, dev: boolean) => {
    using folder = new Folder({ 'package-lock.json': wanted });
    if (installed) folder.write('node_modules/.package-lock.json', installed);
    return packagesAreInstalled(folder.path, { dev });
  };

  it('are missing before npm ran, and when a version differs', () => {
    expect(check(undefined, false)).toBe(false);
    expect(check(lock({ 'node_modules/a': { version: '0.9.0' } }), false)).toBe(false);
  });

  it('need those for tests only when tests run, and never those of other platforms', () => {
    const production = lock({ 'node_modules/a': { version: '1.0.0' } });
    expect(check(production, false)).toBe(true);
    expect(check(production, true)).toBe(false);
  });
});

describe('compiled files', () => {
  it('whose source is gone are removed, and only those', () => {
    using folder = new Folder({
      'engine/kept.ts': '',
      'dist/engine/kept.js': '',
      'dist/engine/kept.d.ts.map': '',
      'dist/engine/deep/gone.js': '',
      'dist/engine/deep/gone.d.ts': '',
      'dist/engine/.tsbuildinfo': '',
    });
    removeStaleOutputs(folder.path, ['engine']);
    const left = ['kept.js', 'kept.d.ts.map', '.tsbuildinfo', 'deep/gone.js', 'deep/gone.d.ts'];
    expect(left.map((file) => existsSync(folder.at(`dist/engine/${file}`)))).toEqual([
      true,
      true,
      true,
      false,
      false,
    ]);
  });

  it('that are missing are noticed; declarations have none', () => {
    using folder = new Folder({ 'engine/a.ts': '', 'engine/addon.d.ts': '', 'dist/engine/a.js': '' });
    expect(outputsAreMissing(folder.path, ['engine'])).toBe(false);
    folder.write('engine/b.ts', '');
    expect(outputsAreMissing(folder.path, ['engine'])).toBe(true);
  });
});

describe('requirements', () => {
  const having = (versions: Record<string, string>) => (name: string) => versions[name];
  const all = { cmake: '3.25.1', 'c++': '12.2', ninja: '1.11', make: '4.3' };

  it('are met by a usual machine, with make where ninja is not there', () => {
    expect(checkNativeTools(having(all)).generator).toBe('Ninja');
    expect(checkNativeTools(having({ ...all, ninja: undefined as never })).generator).toBe('Unix Makefiles');
  });

  it.each([
    [
      { ...all, cmake: undefined },
      /^CMake 3\.20 or newer .*not found.*apt install cmake .*dnf install cmake .*brew/,
    ],
    [{ ...all, cmake: '3.9.1' }, /3\.9\.1 was found/],
    [{ ...all, ninja: undefined, make: undefined }, /^make or ninja .*apt install make/],
  ])('name a missing tool and how to install it', (versions, message) => {
    expect(() => checkNativeTools(having(versions as never))).toThrow(message);
  });

  it('refuse a compiler that knows no C++20', () => {
    expect(() => checkCpp20('/bin/false')).toThrow(/\/bin\/false cannot compile C\+\+20.*apt install g\+\+/);
  });

  it('refuse an old Node', () => {
    expect(() => checkNode('18.20.0')).toThrow(/Node\.js 20 or newer .* 18\.20\.0/);
    checkNode('20.0.0');
  });
});

describe('the set-up lock', () => {
  it('lets one in at a time', async () => {
    using folder = new Folder();
    const file = folder.at('build/lock');
    let inside = 0;
    const most: number[] = [];
    const work = async () => {
      most.push(++inside);
      await new Promise(setImmediate);
      inside--;
    };
    await Promise.all([withLock(file, work), withLock(file, work), withLock(file, work)]);
    expect(most).toEqual([1, 1, 1]);
    expect(existsSync(file)).toBe(false);
  });

  it('is taken over from a process that is gone', async () => {
    // Beyond the largest process id that Linux and macOS give.
    using folder = new Folder({ lock: '99999999' });
    let ran = false;
    await withLock(folder.at('lock'), async () => {
      ran = true;
    });
    expect(ran).toBe(true);
  });

  it('is given back when the work fails', async () => {
    using folder = new Folder();
    await expect(withLock(folder.at('lock'), () => Promise.reject(new Error('no')))).rejects.toThrow('no');
    expect(existsSync(folder.at('lock'))).toBe(false);
  });
});

describe('package-lock.json', () => {
  it('holds the packages of every platform, without which npm ci refuses it', () => {
    const { packages } = JSON.parse(readFileSync(path.join(root, 'package-lock.json'), 'utf8'));
    expect(missingPlatforms(packages)).toEqual([]);
  });

  it('is completed by platforms read from names', () => {
    const missing = missingPlatforms({
      'node_modules/tool': {
        dev: true,
        optionalDependencies: {
          '@tool/cli-linux-x64-musl': '1.2.3',
          fsevents: '~2.3.0',
          '@tool/there': '1.0.0',
        },
      },
      'node_modules/@tool/there': {},
    });
    expect(missing.map(platformEntry)).toEqual([
      { version: '1.2.3', cpu: ['x64'], dev: true, libc: ['musl'], optional: true, os: ['linux'] },
      { version: '2.3.0', dev: true, optional: true, os: ['darwin'] },
    ]);
  });
});

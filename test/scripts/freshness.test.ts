import { utimesSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Folder, importScript } from './support.js';

const { Step } = await importScript('freshness.mjs');

describe('a build step', () => {
  let folder: Folder;
  let runs: number;

  const step = (salt = '') =>
    new Step({
      root: folder.path,
      stamp: 'build/stamp',
      inputs: ['src', 'settings.json'],
      pattern: /\.ts$/,
      outputs: ['out.js'],
      salt,
    });
  const build = (salt = '') =>
    step(salt).run(async () => {
      runs++;
      folder.write('out.js', 'built');
    });

  beforeEach(() => {
    runs = 0;
    folder = new Folder({
      'src/a.ts': 'a',
      'src/deep/b.ts': 'b',
      'src/notes.md': 'n',
      'settings.json': '{}',
    });
  });
  afterEach(() => folder.close());

  it('is stale before its first success and fresh after it', async () => {
    expect(step().isFresh()).toBe(false);
    await build();
    expect(runs).toBe(1);
    expect(step().isFresh()).toBe(true);
  });

  it.each([
    ['an input changes', () => folder.write('src/deep/b.ts', 'B')],
    ['an input is added', () => folder.write('src/c.ts', '')],
    ['an input is removed', () => folder.remove('src/a.ts')],
    ['a single file changes', () => folder.write('settings.json', '{"x":1}')],
    ['its output is gone', () => folder.remove('out.js')],
  ])('is stale when %s', async (_, change) => {
    await build();
    change();
    expect(step().isFresh()).toBe(false);
  });

  it('does not look at times or at files that do not count', async () => {
    await build();
    folder.write('src/notes.md', 'changed');
    utimesSync(folder.at('src/a.ts'), new Date(0), new Date(0));
    expect(step().isFresh()).toBe(true);
  });

  it('notices content that moved from one file into another', async () => {
    await build();
    folder.write('src/a.ts', 'b');
    folder.write('src/deep/b.ts', 'a');
    expect(step().isFresh()).toBe(false);
  });

  it('is stale with another compiler', async () => {
    await build('g++');
    expect(step('clang++').isFresh()).toBe(false);
  });

  it('stays stale when it fails, even if it succeeded before', async () => {
    await build();
    const failing = step().run(() => Promise.reject(new Error('compiler says no')));
    await expect(failing).rejects.toThrow('compiler says no');
    expect(step().isFresh()).toBe(false);
  });

  it('is stale when an input was edited while it ran', async () => {
    await step().run(async () => {
      folder.write('out.js', 'built');
      folder.write('src/a.ts', 'edited meanwhile');
    });
    expect(step().isFresh()).toBe(false);
  });
});

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

/** A compiled module and what it loads when it is loaded: files of ours, and names of packages. */
function loadedBy(file: URL, found = new Set<string>()): Set<string> {
  if (found.has(file.href)) return found;
  found.add(file.href);
  const code = readFileSync(fileURLToPath(file), 'utf8');
  for (const [, name] of code.matchAll(/^(?:import|export)\s(?:[^;'"]*\sfrom\s)?'([^']+)';$/gm)) {
    if (name!.startsWith('.')) loadedBy(new URL(name!, file), found);
    else found.add(name!);
  }
  return found;
}

it('loads no package at its start: what checks files is loaded where engines are opened, all else when it is used', () => {
  const loaded = [...loadedBy(new URL('../../dist/engine/worker.js', import.meta.url))];
  expect(loaded.length).toBeGreaterThan(50);
  expect(loaded.filter((name) => !name.startsWith('file:') && !name.startsWith('node:'))).toEqual([]);
});

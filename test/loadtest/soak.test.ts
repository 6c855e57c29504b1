import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { Folder } from '../scripts/support.js';
import { measure } from './bench.js';

describe('tandem bench soak', () => {
  it('loads a server with everything, compares thirds of the time, and plots them', async () => {
    using folder = new Folder();
    const html = folder.at('soak.html');
    const soak = ['--minutes', '0.15', '--clients', '3', '--samples', '3', '--html', html];
    const { row, names } = await measure('soak', ...soak, '--', '--kv-memory', '64MiB');
    expect(row('requests').value).toBeGreaterThan(0);
    expect(row('failures').value).toBe(0);
    const memory = row('resident memory, last third over the one before');
    expect(memory.value).toBeGreaterThan(20);
    expect(memory.ratio).toBeGreaterThan(0);
    expect(names).toContain('open files, last third over the one before');
    const page = readFileSync(html, 'utf8');
    expect(page).toContain('aria-label="Memory"');
    expect(page).toContain('<path class="line');
  });
});

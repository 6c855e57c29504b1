import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { renderPlots } from '../../loadtest/results/render-plots.js';
import { renderResults } from '../../loadtest/results/render-results.js';
import { parseRows } from '../../loadtest/rows.js';
import { Folder } from '../scripts/support.js';
import { bench } from './bench.js';

describe('tandem bench soak', () => {
  it('loads a server with everything, compares thirds of the time, and plots them', async () => {
    using folder = new Folder();
    const [json, html] = [folder.at('soak.json'), folder.at('soak.html')];
    const soak = ['--minutes', '0.15', '--clients', '3', '--samples', '3', '--json', json, '--html', html];
    const { code, stdout, stderr } = await bench('soak', ...soak, '--', '--kv-memory', '64MiB');
    expect([code, stderr]).toEqual([0, expect.any(String)]);
    const rows = parseRows(json, readFileSync(json, 'utf8'));
    const row = (name: string) => rows.find((one) => one.name === name)!;
    expect(row('requests').value).toBeGreaterThan(0);
    expect(row('failures').value).toBe(0);
    const memory = row('resident memory, last third over the one before');
    expect(memory.value).toBeGreaterThan(20);
    expect(memory.baseline).toBe(row('minute 0.10: resident memory').value);
    expect(stdout).toContain('open files, last third over the one before');
    expect(stdout).not.toContain('minute');
    const page = readFileSync(html, 'utf8');
    expect(page).toContain('aria-label="Memory"');
    expect(page).toContain('<path class="line');

    expect(renderPlots(folder.path).get('soak-memory.svg')).toContain('resident memory');
    const results = renderResults(folder.path);
    expect(results).toContain('plots/soak-memory.svg');
    expect(results).not.toContain('minute 0.15');
  });
});

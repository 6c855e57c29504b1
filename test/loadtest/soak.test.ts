import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { renderPlots } from '../../loadtest/results/render-plots.js';
import { renderResults } from '../../loadtest/results/render-results.js';
import { parseRows, Rows } from '../../loadtest/rows.js';
import { addSoak } from '../../loadtest/soak/figures.js';
import type { Sample } from '../../loadtest/soak/samples.js';
import { Folder } from '../scripts/support.js';
import { bench } from './bench.js';
import { origin } from './origin.js';

describe('figures of a soak', () => {
  const sample = (ttftP99: number, residentMb = 100): Sample => ({
    ...{ minutes: 1, residentMb, heapMb: 50, openFiles: 30, requests: 4 },
    ...{ ttftP50: ttftP99, ttftP99, tbtP50: 5, tbtP99: 9 },
  });
  const names = (samples: readonly Sample[]) => {
    const rows = new Rows(origin);
    addSoak(rows, samples, 0);
    return rows.all.map(({ name }) => name);
  };

  it('compare no latency where no stream came to its end, and all else', () => {
    const all = names([sample(20), sample(20), sample(20)]);
    const some = names([sample(20), sample(20), sample(Number.NaN)]);
    const ttft = /^TTFT p99, last third|^minute .*TTFT/;
    expect(all.filter((name) => ttft.test(name))).toHaveLength(1 + 6);
    expect(some.filter((name) => ttft.test(name))).toHaveLength(4);
    expect(some.filter((name) => !ttft.test(name))).toEqual(all.filter((name) => !ttft.test(name)));
    expect(() => names([sample(20), sample(20), sample(20, Number.NaN)])).toThrow('was not measured');
  });
});

describe('tandem bench soak', () => {
  it('loads a server with everything, compares thirds of the time, and plots them', async () => {
    using folder = new Folder();
    const [json, html] = [folder.at('soak.json'), folder.at('soak.html')];
    const soak = ['--minutes', '0.1', '--clients', '3', '--samples', '3', '--json', json, '--html', html];
    const { code, stdout, stderr } = await bench('soak', ...soak, '--', '--kv-memory', '64MiB');
    expect([code, stderr]).toEqual([0, expect.any(String)]);
    const rows = parseRows(json, readFileSync(json, 'utf8'));
    const row = (name: string) => rows.find((one) => one.name === name)!;
    expect(row('requests').value).toBeGreaterThan(0);
    expect(row('failures').value).toBe(0);
    const memory = row('resident memory, last third over the one before');
    expect(memory.value).toBeGreaterThan(20);
    // Three samples are three thirds, whenever each was taken.
    const sampled = rows.filter(({ name }) => /^minute .*: resident memory$/.test(name));
    expect([memory.baseline, memory.value]).toEqual(sampled.slice(1).map(({ value }) => value));
    expect(stdout).toContain('open files, last third over the one before');
    expect(stdout).not.toContain('minute');
    const page = readFileSync(html, 'utf8');
    expect(page).toContain('aria-label="Memory"');
    expect(page).toContain('<path class="line');

    expect(renderPlots(folder.path).get('soak-memory.svg')).toContain('resident memory');
    const results = renderResults(folder.path);
    expect(results).toContain('plots/soak-memory.svg');
    expect(results).not.toMatch(/minute \d/);
  });
});

import { describe, expect, it } from 'vitest';
import { renderPlots } from '../../../loadtest/results/render-plots.js';
import type { Row } from '../../../loadtest/rows.js';
import { Folder } from '../../scripts/support.js';

function row(name: string, value: number, ratio: number | null): Row {
  const origin = { command: 'tandem', commit: '0', machine: 'm', date: '2026-01-01T00:00:00.000Z' };
  return {
    name,
    value,
    unit: 'requests/s',
    baseline: ratio === null ? null : value / ratio,
    ratio,
    ...origin,
  };
}

describe('plots of results', () => {
  it('draw the ratios that rows have, as files that need no other', () => {
    using folder = new Folder();
    const rows = [
      row('3B, ldc: nexus spf, rate carried at TTFT 1 ms, TPOT 50 ms', 3, 1.5),
      row('3B, ldc: nexus spf, rate carried at TTFT 1 ms, TBT 50 ms', 3, 77),
      row('3B, ldc: nexus spf against chunked spf, rate carried at TTFT 1 ms, TPOT 50 ms', 3, 88),
    ];
    folder.write('simulate-paper.json', JSON.stringify(rows));
    const plots = renderPlots(folder.path);
    expect([...plots.keys()]).toEqual(['simulated-rates.svg']);
    const svg = plots.get('simulated-rates.svg')!;
    expect(svg).toContain('3B, ldc: nexus spf');
    expect(svg).toContain('>1.5<');
    expect(svg).not.toMatch(/>77<|>88<|href|src=/);
    expect(svg.startsWith('<svg xmlns="http://www.w3.org/2000/svg"')).toBe(true);
  });

  it('draw nothing of what was not measured', () => {
    using folder = new Folder();
    expect(renderPlots(folder.path).size).toBe(0);
    folder.write('schedulers.json', JSON.stringify([row('something else', 1, null)]));
    expect(renderPlots(folder.path).size).toBe(0);
  });

  it('show what KV caches cost for their bytes', () => {
    using folder = new Folder();
    const rows = ['exact', 'int8', 'int2'].flatMap((policy, index) => [
      row(`${policy}: KV of a token`, 6000 / 2 ** index, null),
      row(`${policy}: right answers`, 90 - 20 * index, null),
      ...(policy === 'exact'
        ? []
        : [row(`${policy}: KL divergence of a prediction, mean`, 0.4 * index, null)]),
      ...[0, 50].flatMap((depth) =>
        [128, 256, 512].map((context) =>
          row(`${policy}: right answers at ${context} tokens, depth ${depth}%`, 37, null),
        ),
      ),
    ]);
    folder.write('quality.json', JSON.stringify(rows));
    const plots = renderPlots(folder.path);
    // A mark and its legend for each, and for each corner of the front.
    expect(plots.get('quality-answers.svg')!.match(/<circle/g)).toHaveLength(3 + 3 + 3 + 1);
    expect(plots.get('quality-divergence.svg')!.match(/<circle/g)).toHaveLength(2 + 2 + 2 + 1);
    expect(plots.get('quality-divergence.svg')).toContain('int8: 0.4 at ');
    expect(plots.get('quality-maps.svg')!.match(/>37</g)).toHaveLength(3 * 6);
    expect([...plots.values()].join('')).not.toMatch(/NaN|undefined|Infinity/);
  });

  it('show what a scheduler costs streams against what it costs prompts', () => {
    using folder = new Folder();
    const rows = ['nexus, slack 1.5', 'chunked'].flatMap((side) => [
      row(`${side}: TTFT beside the streams, p50`, 10, 1.2),
      row(`${side}: TBT while prompts arrive, p99`, 20, 1.4),
    ]);
    folder.write('schedulers.json', JSON.stringify(rows));
    const svg = renderPlots(folder.path).get('trade-off.svg')!;
    expect(svg.match(/<circle/g)!.length).toBe(4);
    expect(svg).toContain('nexus, by slack');
  });
});

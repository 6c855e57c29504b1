import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { headlines } from '../../../loadtest/results/headlines.js';
import { renderResults } from '../../../loadtest/results/render-results.js';
import { Rows } from '../../../loadtest/rows.js';
import { Folder, root } from '../../scripts/support.js';
import { origin } from '../origin.js';

function jsonOf(add: (rows: Rows) => void, of = origin): string {
  const rows = new Rows(of);
  add(rows);
  return JSON.stringify(rows.all);
}

describe('docs/results.md', () => {
  it('has a table a file, with the command, the machine and the commit below it', () => {
    using folder = new Folder({ 'serve-mixed.json': jsonOf((rows) => rows.add('TBT | p50', 30, 'ms', 12)) });
    const page = renderResults(folder.path);
    expect(page).toContain('## Running streams while long prompts arrive\n');
    expect(page).toContain('| what | value | unit | baseline | ratio |\n');
    expect(page).toContain(String.raw`| TBT \| p50 | 30 | ms | 12 | 2.5 |`);
    expect(page).toContain(
      '`tandem bench serve --requests 3`, 2026-11-24, commit 0123456789ab, a processor, 2 cores',
    );
  });

  it('leaves out baseline and ratio where nothing is compared', () => {
    using folder = new Folder({ 'serve.json': jsonOf((rows) => rows.add('TTFT p50', 5, 'ms')) });
    expect(renderResults(folder.path)).toContain(
      '| what | value | unit |\n| --- | ---: | --- |\n| TTFT p50 | 5 | ms |',
    );
  });

  it('keeps the rows of different runs apart, and shows a file of another name under it', () => {
    const first = jsonOf((rows) => rows.add('a', 1, 'ms'));
    const second = jsonOf((rows) => rows.add('b', 2, 'ms'), { ...origin, command: 'tandem bench engine' });
    const both = JSON.stringify([...JSON.parse(first), ...JSON.parse(second)]);
    using folder = new Folder({ 'my-own.json': both });
    const page = renderResults(folder.path);
    expect(page).toContain('## my-own\n');
    expect(page.match(/\| what \|/g)).toHaveLength(2);
    expect(page.indexOf('tandem bench serve')).toBeLessThan(page.indexOf('tandem bench engine'));
  });

  it('leaves to a plot what it shows, and names only plots that there are', () => {
    const text = jsonOf((rows) => {
      rows.add('exact: KV of a token', 6144, 'bytes');
      rows.add('exact: right answers', 90, '%');
      rows.add('exact: right answers at 128 tokens, depth 0%', 75, '%');
    });
    using folder = new Folder({ 'quality.json': text });
    const page = renderResults(folder.path);
    expect(page).toContain('| exact: right answers | 90 | % |');
    expect(page).not.toContain('depth 0%');
    expect(page).toContain('](plots/quality-maps.svg)');
    expect(page).not.toContain('quality-divergence.svg');
  });

  it('begins with what is asked first, beside what was aimed at, and with its contents', () => {
    const text = jsonOf((rows) => {
      rows.add('int8 / Q8_0, pp2048', 330, 'tok/s', 100);
      rows.add('int8 / Q8_0, tg32, 1 sequence', 13, 'tok/s', 10);
    });
    using folder = new Folder({ 'peer-int8.json': text });
    const page = renderResults(folder.path);
    const link = '[Against llama.cpp, int8 weights](#against-llamacpp-int8-weights)';
    const glance = page.slice(page.indexOf('## At a glance'), page.indexOf('## Contents'));
    expect(glance).toContain(`llama.cpp | 3.3 | at least 4: missed | ${link} |`);
    expect(glance).toContain(`likewise | 1.3 | at least 1.15 | ${link} |`);
    expect(page).toContain(`## Contents\n\n- ${link}\n`);
  });

  it('has a row for each of what is asked first', () => {
    const page = renderResults(path.join(root, 'docs/results'));
    for (const { about } of headlines) expect(page).toContain(`| ${about} | `);
  });

  it('refuses by name a file that holds no rows', () => {
    using folder = new Folder({ 'good.json': jsonOf((rows) => rows.add('a', 1, 'ms')), 'bad.json': '[{}]' });
    expect(() => renderResults(folder.path)).toThrow(/^bad\.json: 0\.name: /);
  });

  it('says so where nothing has been measured', () => {
    using folder = new Folder();
    expect(renderResults(folder.path)).toContain('Nothing has been measured yet.');
  });
});

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { parseRows, type Row } from '../rows.js';
import { readable } from '../table.js';
import { renderHeadlines } from './headlines.js';
import { renderPlots } from './render-plots.js';
import { anchor, gpuSections, type Results, sections, titleOf } from './sections.js';

const head = `# Results

<!-- Rendered from docs/results/*.json by "tandem bench render"; do not edit. -->

Each table stands with the command that made it, the machine and the commit. Figures of a table were measured in one run;
medians where a workload was repeated. Figures of different machines are not comparable.
`;

/** The page docs/results.md for the rows in `folder`. Throws an Error that names a file that holds something else. */
export function renderResults(folder: string): string {
  const files = readdirSync(folder)
    .filter((file) => file.endsWith('.json'))
    .sort((a, b) => order(a) - order(b) || (a < b ? -1 : 1));
  for (const name of Object.keys(gpuSections)) {
    if (existsSync(path.join(folder, 'gpu', `${name}.json`))) files.push(path.join('gpu', `${name}.json`));
  }
  if (files.length === 0) return `${head}\nNothing has been measured yet.\n`;
  const results: Results[] = files.map((file) => ({
    name: path.basename(file, '.json'),
    rows: parseRows(file, readFileSync(path.join(folder, file), 'utf8')),
  }));
  const drawn = new Set(renderPlots(folder).keys());
  const pages = results.map((result) => renderFile(result, drawn));
  return [head, ...renderHeadlines(results), renderContents(results), ...pages].join('\n');
}

function renderContents(results: readonly Results[]): string {
  const titles = results.map(({ name }) => titleOf(name));
  return ['## Contents', '', ...titles.map((title) => `- [${title}](#${anchor(title)})`), ''].join('\n');
}

function order(file: string): number {
  const index = Object.keys(sections).indexOf(path.basename(file, '.json'));
  return index === -1 ? Number.POSITIVE_INFINITY : index;
}

/** @param drawn the plots that there are */
function renderFile({ name, rows }: Results, drawn: ReadonlySet<string>): string {
  const section = sections[name] ?? gpuSections[name];
  const lines = [`## ${titleOf(name)}`, ''];
  if (section) lines.push(section.about, '');
  for (const [file, alt] of section?.plots ?? [])
    if (drawn.has(file)) lines.push(`![${alt}](plots/${file})`, '');
  const shown = section?.drawn ? rows.filter((row) => !section.drawn!.test(row.name)) : rows;
  for (const group of groupByOrigin(shown)) lines.push(...renderGroup(group), '');
  return lines.join('\n');
}

/** Rows of one run stand in one table, in their order. */
function groupByOrigin(rows: readonly Row[]): Row[][] {
  const groups = new Map<string, Row[]>();
  for (const row of rows) {
    const key = JSON.stringify([row.command, row.commit, row.machine, row.date]);
    const group = groups.get(key);
    if (group) group.push(row);
    else groups.set(key, [row]);
  }
  return [...groups.values()];
}

function renderGroup(rows: readonly Row[]): string[] {
  const { command, commit, machine, date } = rows[0]!;
  const compared = rows.some(({ baseline }) => baseline !== null);
  const table = rows.map(({ name, value, unit, baseline, ratio }) => {
    const cells = [escaped(name), readable(value), escaped(unit)];
    if (compared) {
      cells.push(baseline === null ? '' : readable(baseline), ratio === null ? '' : readable(ratio));
    }
    return `| ${cells.join(' | ')} |`;
  });
  return [
    `| what | value | unit |${compared ? ' baseline | ratio |' : ''}`,
    `| --- | ---: | --- |${compared ? ' ---: | ---: |' : ''}`,
    ...table,
    '',
    `\`${command}\`, ${date.slice(0, 10)}, commit ${commit}, ${machine}`,
  ];
}

function escaped(cell: string): string {
  return cell.replaceAll('|', String.raw`\|`);
}

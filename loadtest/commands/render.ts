import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { Command } from 'commander';
import { packageRoot } from '../../config/package-root.js';
import { renderPlots } from '../results/render-plots.js';
import { renderResults } from '../results/render-results.js';
import { notice } from './output.js';

export function renderCommand(): Command {
  return new Command('render')
    .description('write docs/results.md and docs/plots/ from docs/results/*.json')
    .action(() => {
      const docs = path.join(packageRoot, 'docs');
      const rows = path.join(docs, 'results');
      write(path.join(docs, 'results.md'), renderResults(rows));
      const plots = path.join(docs, 'plots');
      mkdirSync(plots, { recursive: true });
      for (const [name, svg] of renderPlots(rows)) write(path.join(plots, name), svg);
    });
}

function write(file: string, content: string): void {
  writeFileSync(file, content);
  notice(`wrote ${path.relative(packageRoot, file)}`);
}

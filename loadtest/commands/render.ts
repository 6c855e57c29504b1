import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { Command } from 'commander';
import { packageRoot } from '../../config/package-root.js';
import { renderResults } from '../render-results.js';
import { notice } from './output.js';

export function renderCommand(): Command {
  return new Command('render').description('write docs/results.md from docs/results/*.json').action(() => {
    const page = path.join(packageRoot, 'docs', 'results.md');
    writeFileSync(page, renderResults(path.join(packageRoot, 'docs', 'results')));
    notice(`wrote ${path.relative(packageRoot, page)}`);
  });
}

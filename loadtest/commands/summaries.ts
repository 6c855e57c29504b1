import path from 'node:path';
import process from 'node:process';
import { Command } from 'commander';
import { EngineSettings } from '../../config/schema.js';
import { openTokenizer, PartitionRule, pageTokens, readCheckpoint } from '../../engine/index.js';
import { originOf } from '../origin.js';
import { formatRows } from '../print-rows.js';
import { demoText, readWindows } from '../quality/held-out-text.js';
import { Rows } from '../rows.js';
import { firstSelecting, measureSummaries } from '../summaries/measure.js';
import { fileToWrite, wholeNumber } from './arguments.js';
import { demoModel } from './bench-choices.js';
import { print } from './output.js';
import { ProgressBar } from './progress-bar.js';

interface SummariesOptions {
  text?: string;
  windows: number;
  tokens?: number;
  sinkTokens: number;
  recentTokens: number;
  topPages: number;
  json?: string;
}

const usual = EngineSettings.parse({});

export function summariesCommand(argv: readonly string[]): Command {
  return new Command('summaries')
    .description(
      'what it would bring if pages that --kv pack does not select were summarized, within the context',
    )
    .argument('[model]', 'model folder; the demo model if absent')
    .option('--text <file>', 'to read; for the demo model that of its folder if absent')
    .option('--windows <n>', 'stretches of it; fewer if it is short', wholeNumber(1), 4)
    .option('--tokens <n>', "of each; the model's context, or 2048, if absent", wholeNumber(64))
    .option(
      '--sink-tokens <n>',
      'as --pack-sink-tokens of "tandem serve"',
      wholeNumber(1),
      usual.packSinkTokens,
    )
    .option('--recent-tokens <n>', 'as --pack-recent-tokens', wholeNumber(1), usual.packRecentTokens)
    .option('--top-pages <n>', 'as --pack-top-pages', wholeNumber(1), usual.packTopPages)
    .option('--json <file>', 'write the rows to a file', fileToWrite)
    .action((model: string | undefined, options: SummariesOptions) => runSummaries(argv, model, options));
}

async function runSummaries(
  argv: readonly string[],
  model: string | undefined,
  options: SummariesOptions,
): Promise<void> {
  const folder = model === undefined ? demoModel : path.resolve(model);
  const text = options.text ?? (model === undefined ? demoText : undefined);
  if (text === undefined) throw new RangeError('a model of your own needs a text to read: give --text FILE');
  const checkpoint = await readCheckpoint(folder);
  const { contextLength, slidingWindow, qkNorm } = checkpoint.spec;
  const tokens = options.tokens ?? Math.min(2048, contextLength);
  if (tokens > contextLength)
    throw new RangeError(`--tokens ${tokens}: the model's context is ${contextLength} tokens`);
  if (slidingWindow.some((window) => window > 0))
    throw new RangeError('--kv pack needs a model without sliding windows');
  if (qkNorm)
    throw new RangeError('models that normalize queries and keys (QK norm) cannot be measured so yet');
  const { sinkTokens, recentTokens, topPages } = options;
  const rule = new PartitionRule({ sinkTokens, recentTokens, midTokens: tokens, topPages }, pageTokens);
  const from = firstSelecting(rule);
  if (from >= tokens - 1) {
    throw new RangeError(
      `the first row that does not see everything is number ${from} of ${tokens}: lower --recent-tokens or --top-pages`,
    );
  }
  const windows = readWindows(text, await openTokenizer(folder), { tokens, count: options.windows });
  const rows = new Rows(originOf(['summaries', ...argv]));
  const bar = new ProgressBar('measuring', process.stderr);
  try {
    const figures = measureSummaries(checkpoint, windows, rule, (done) => bar.update(done));
    const [full, alone] = figures;
    for (const { name, perplexity } of figures) {
      rows.add(`perplexity, ${name}`, perplexity, 'ppl', name === full!.name ? null : full!.perplexity);
    }
    for (const { name, errors } of figures.slice(1)) {
      for (const [layer, error] of errors.entries()) {
        const baseline = name === alone!.name ? null : 100 * alone!.errors[layer]!;
        rows.add(`error of attention in layer ${layer}, ${name}`, 100 * error, '%', baseline);
      }
    }
  } finally {
    bar.end();
  }
  print(formatRows(rows.all));
  if (options.json) rows.write(options.json);
}

import path from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import {
  convertKvHeads,
  type Grouping,
  groupings,
  type KvHeadReport,
  keptKvHeads,
  type MergeMethod,
  mergeMethods,
} from '../../engine/convert/index.js';
import { openTokenizer, readCheckpoint } from '../../engine/index.js';
import { renderKvHeads } from '../convert/kv-head-report.js';
import { addKvHeadRows } from '../convert/kv-head-rows.js';
import { ownText } from '../convert/own-text.js';
import { originOf } from '../origin.js';
import { formatRows } from '../print-rows.js';
import { readWindows } from '../quality/held-out-text.js';
import { Rows } from '../rows.js';
import { wholeNumber } from './arguments.js';
import { notice, print } from './output.js';
import { ProgressBar } from './progress-bar.js';

interface ConvertOptions {
  readonly keep: number;
  readonly text?: string;
  readonly window?: number;
  readonly windows: number;
  readonly method: MergeMethod;
  readonly groups: Grouping;
  readonly seed: number;
}

/** Longer windows cost attention that grows with their square, and show little that is new. */
const usualWindow = 1024;

export function convertKvHeadsCommand(argv: readonly string[]): Command {
  return new Command('kv-heads')
    .description('share keys and values between heads: a KV cache of a half or a quarter, without training')
    .argument('<model>', 'model folder with multi-head attention')
    .argument('<out>', 'new folder')
    .requiredOption('--keep <part>', 'of the KV heads, and so of the cache: 0.5, 0.25', part)
    .option(
      '--text <file>',
      'calibration text, as much like its use as can be; the model writes its own if absent',
    )
    .option(
      '--window <n>',
      `tokens of a stretch of it; ${usualWindow} or the context if absent`,
      wholeNumber(16),
    )
    .option(
      '--windows <n>',
      'stretches; the last quarter is kept to choose and to report by',
      wholeNumber(2),
      16,
    )
    .addOption(
      new Option('--method <name>', 'fit: bases fitted to the text; svd: in closed form; mean: averages')
        .choices(mergeMethods)
        .default('fit'),
    )
    .addOption(
      new Option('--groups <name>', 'heads that share: the most similar, or neighbours')
        .choices(groupings)
        .default('similar'),
    )
    .option('--seed <n>', "of the model's own text", wholeNumber(0), 1)
    .action((model: string, out: string, options: ConvertOptions) => convert(argv, model, out, options));
}

async function convert(
  argv: readonly string[],
  model: string,
  out: string,
  options: ConvertOptions,
): Promise<void> {
  const origin = originOf(argv, 'tandem convert');
  const folder = path.resolve(model);
  const checkpoint = await readCheckpoint(folder);
  // Before the model writes a text for minutes.
  keptKvHeads(checkpoint.spec, options.keep);
  const { contextLength, layers } = checkpoint.spec;
  const tokens = options.window ?? Math.min(usualWindow, contextLength);
  if (tokens > contextLength) {
    throw new Error(`--window ${tokens}: the model's context is ${contextLength} tokens`);
  }
  const windows = await calibrationText(folder, tokens, options);
  const bar = new ProgressBar('converting', process.stderr);
  let rows = new Rows(origin);
  try {
    const report = await convertKvHeads(checkpoint, {
      out: path.resolve(out),
      keep: options.keep,
      method: options.method,
      groups: options.groups,
      windows,
      onProgress: (layer, done) => {
        bar.update((layer + done) / layers);
        if (done === 1 && !process.stderr.isTTY) notice(`layer ${layer + 1} of ${layers}`);
      },
      report: (found) => {
        rows = new Rows(origin);
        addKvHeadRows(rows, found);
        return {
          'kv-heads.json': `${JSON.stringify(rows.all, null, 1)}\n`,
          'kv-heads.html': renderKvHeads(rows.all, found, origin),
        };
      },
    });
    bar.end();
    tell(report, out);
    print(formatRows(rows.all));
  } finally {
    bar.end();
  }
}

async function calibrationText(
  folder: string,
  tokens: number,
  { text, windows, seed }: ConvertOptions,
): Promise<Int32Array[]> {
  if (text !== undefined) {
    return readWindows(text, await openTokenizer(folder), { tokens, count: windows });
  }
  notice(
    `the model writes ${windows} texts of ${tokens} tokens to be calibrated on; --text FILE takes yours`,
  );
  const bar = new ProgressBar('writing', process.stderr);
  try {
    return await ownText(folder, { tokens, count: windows, seed }, (done) => bar.update(done));
  } finally {
    bar.end();
  }
}

function tell({ kvHeads, heads, perplexity, originalPerplexity }: KvHeadReport, out: string): void {
  notice(
    `${out}: ${kvHeads} of ${heads} KV heads, perplexity of unseen calibration text ` +
      `${perplexity.toFixed(3)} (was ${originalPerplexity.toFixed(3)}); kv-heads.html in it says more`,
  );
}

function part(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !(value > 0 && value <= 1)) {
    throw new InvalidArgumentError('Expected a part such as 0.5 or 0.25.');
  }
  return value;
}

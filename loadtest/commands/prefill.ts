import { once } from 'node:events';
import path from 'node:path';
import process from 'node:process';
import { Command, InvalidArgumentError, Option } from 'commander';
import {
  openChatTemplate,
  openTokenizer,
  pageTokens,
  readCheckpoint,
  readGenerationDefaults,
  SparsePrefill,
} from '../../engine/index.js';
import { openBenchDevice } from '../device/open.js';
import { randomPrompt } from '../device/prompts.js';
import { originOf } from '../origin.js';
import { addPrefillFigures } from '../prefill/figure-rows.js';
import { measurePrefill, type PrefillPlan } from '../prefill/measure.js';
import { formatRows } from '../print-rows.js';
import { readWindows } from '../quality/held-out-text.js';
import { retrievalCases } from '../quality/retrieval-cases.js';
import { Rows } from '../rows.js';
import { readable } from '../table.js';
import { fileToWrite, wholeNumber, wholeNumbers } from './arguments.js';
import { demoModel, type Isa, isaOption, weightClasses } from './bench-choices.js';
import { notice, print } from './output.js';

/** Where in the text a fact stands, in percent. */
const depths = [0, 25, 50, 75, 100];

interface PrefillOptions {
  lengths: number[];
  taus: number[];
  text?: string;
  windows: number;
  samples: number;
  weights: (typeof weightClasses)[number];
  repetitions: number;
  stepTokens: number;
  cores?: number;
  isa?: Isa;
  pause?: true;
  seed: number;
  json?: string;
}

export function prefillCommand(argv: readonly string[]): Command {
  return new Command('prefill')
    .description('time prompts that are read with sparse prefill (--prefill-tau) beside dense ones')
    .argument('[model]', 'model folder; the demo model if absent')
    .option('--lengths <tokens>', 'prompts to read, one after another', wholeNumbers, [2048])
    .option('--taus <parts>', 'of --prefill-tau, each beside dense prefill', parts, [0.95, 0.9])
    .option('--text <file>', 'read it, and measure its perplexity; prompts are random tokens if absent')
    .option('--windows <n>', 'stretches of the text; fewer if it is short', wholeNumber(1), 16)
    .option('--samples <n>', 'questions for each length and depth, to count right answers', wholeNumber(0), 0)
    .addOption(new Option('--weights <class>', 'of the model').choices(weightClasses).default('int8'))
    .option('--repetitions <n>', 'turns of each', wholeNumber(1), 5)
    .option('--step-tokens <n>', 'tokens of one step', wholeNumber(32), 512)
    .option('--cores <n>', 'cores to compute on; all if absent', wholeNumber(1))
    .addOption(isaOption())
    .option('--pause', 'wait for Enter before each turn, on a machine that others must use meanwhile')
    .option('--seed <n>', 'of random prompts and of questions', wholeNumber(0), 1)
    .option('--json <file>', 'write the rows to a file', fileToWrite)
    .action((model: string | undefined, options: PrefillOptions) => runPrefill(argv, model, options));
}

async function runPrefill(
  argv: readonly string[],
  model: string | undefined,
  options: PrefillOptions,
): Promise<void> {
  const folder = model === undefined ? demoModel : path.resolve(model);
  const rows = new Rows(originOf(['prefill', ...argv]));
  const plans = new Map<number, PrefillPlan>();
  for (const length of options.lengths) plans.set(length, await planFor(folder, length, options));
  const { device } = await openBenchDevice({
    model: folder,
    weights: options.weights,
    kv: 'exact',
    stepTokens: options.stepTokens,
    sequences: 1,
    kvTokens: Math.max(...options.lengths),
    ...(options.cores !== undefined && { cores: options.cores }),
    ...(options.isa !== undefined && { isa: options.isa }),
  });
  try {
    for (const [length, plan] of plans) {
      const nameOf = (tau: number) => `${length} tokens, ${tau < 1 ? `tau ${tau}` : 'dense'}`;
      const figures = await measurePrefill(
        device,
        plan,
        async (tau) => {
          if (options.pause) await enter(`${nameOf(tau)}: press Enter`);
        },
        (tau, seconds) => notice(`${nameOf(tau)}: ${readable(seconds)} s`),
      );
      addPrefillFigures(rows, length, figures);
      if (options.json) rows.write(options.json);
    }
  } finally {
    await device.close();
  }
  print(formatRows(rows.all));
}

/** Reads and checks everything that can be wrong before a device is opened. */
async function planFor(folder: string, length: number, options: PrefillOptions): Promise<PrefillPlan> {
  const { spec } = await readCheckpoint(folder);
  if (length > spec.contextLength) {
    throw new Error(`--lengths ${length}: the model's context is ${spec.contextLength} tokens`);
  }
  const rule = new SparsePrefill(0, spec.layers, pageTokens);
  const sparseRows = { begin: 2 * rule.stretchTokens, end: rule.denseFrom(length) };
  if (sparseRows.end <= sparseRows.begin) {
    throw new Error(
      `--lengths ${length}: all rows of so short a prompt look everywhere whatever tau is; give 1024 or more`,
    );
  }
  const [tokenizer, template, { eosTokenIds }] = await Promise.all([
    openTokenizer(folder),
    openChatTemplate(folder),
    readGenerationDefaults(folder),
  ]);
  const { text, windows, samples, seed, repetitions } = options;
  const texts = text === undefined ? [] : readWindows(text, tokenizer, { tokens: length, count: windows });
  const asked = { contexts: [length], depths, samples, seed };
  return {
    prompt: texts[0] ?? randomPrompt(length, spec.vocab, seed),
    taus: options.taus,
    repetitions,
    texts,
    sparseRows,
    ...(samples > 0 && {
      questions: {
        plan: asked,
        cases: retrievalCases(asked, tokenizer, template),
        model: { tokenizer, eosTokenIds },
      },
    }),
  };
}

/** Goes on at once where the input has ended. */
async function enter(question: string): Promise<void> {
  notice(question);
  const { stdin } = process;
  if (stdin.readableEnded) return;
  stdin.resume();
  await Promise.race([once(stdin, 'data'), once(stdin, 'end')]);
  stdin.pause();
}

/** Separated by commas: `0.95,0.9`. */
function parts(text: string): number[] {
  return text.split(',').map((word) => {
    const value = Number(word);
    if (word.trim() === '' || !(value >= 0 && value < 1)) {
      throw new InvalidArgumentError('Expected parts from 0 to below 1, as 0.95,0.9.');
    }
    return value;
  });
}

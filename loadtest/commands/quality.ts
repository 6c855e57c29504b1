import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import { ModelSettings } from '../../config/schema.js';
import {
  type Device,
  openChatTemplate,
  openTokenizer,
  readCheckpoint,
  readGenerationDefaults,
} from '../../engine/index.js';
import { originOf } from '../origin.js';
import { formatRows } from '../print-rows.js';
import { addFigures } from '../quality/figure-rows.js';
import { demoText, readWindows } from '../quality/held-out-text.js';
import {
  type ComparedFigures,
  measureBesideExact,
  measureExact,
  type QualityFigures,
  type QualityPlan,
} from '../quality/measure.js';
import { openPolicy, type PolicyRoom } from '../quality/open-policy.js';
import {
  type CachePolicy,
  cachePolicies,
  exactPolicy,
  offeredPolicies,
  policyNamed,
} from '../quality/policies.js';
import { renderQuality } from '../quality/report.js';
import { retrievalCases } from '../quality/retrieval-cases.js';
import { growthOf } from '../quality/step-times.js';
import { Rows } from '../rows.js';
import { readable } from '../table.js';
import { fileToWrite, listOf, wholeNumber, wholeNumbers } from './arguments.js';
import { demoModel, type Isa, isaOption, weightClasses } from './bench-choices.js';
import { notice, print } from './output.js';
import { ProgressBar } from './progress-bar.js';

const allPolicies = cachePolicies.map(({ name }) => name);
const usualContexts = [128, 256, 512, 1024, 2048];

interface QualityOptions {
  policies?: string[];
  beside: string[];
  weights: ModelSettings['weights'];
  text?: string;
  window?: number;
  windows: number;
  contexts?: number[];
  depths: number[];
  samples: number;
  seed: number;
  sequences: number[];
  repetitions: number;
  stepTokens: number;
  cores?: number;
  isa?: Isa;
  json?: string;
  html?: string;
}

export function qualityCommand(argv: readonly string[]): Command {
  return new Command('quality')
    .description('measure what each KV cache costs in quality, and saves in memory and time')
    .argument('[model]', 'model folder; the demo model if absent')
    .option(
      '--policies <names>',
      `${allPolicies.join(', ')}, by commas; those of --kv if absent, or with --beside the exact one`,
      listOf(allPolicies),
    )
    .option(
      '--beside <folders>',
      'other models with this tokenizer, by commas, such as "tandem convert" makes: each with an exact cache',
      (text: string) => text.split(','),
      [],
    )
    .addOption(
      new Option('--weights <class>', 'of the model')
        .choices(weightClasses)
        .default(ModelSettings.parse({}).weights),
    )
    .option('--text <file>', "text for perplexity and KL; the demo model's held-out text if absent")
    .option('--window <n>', 'tokens of a stretch of it; the longest context if absent', wholeNumber(16))
    .option('--windows <n>', 'stretches, side by side; fewer if the text is short', wholeNumber(1), 16)
    .option('--contexts <lengths>', 'of questions, in tokens; 128 to 2048 if absent', wholeNumbers)
    .option('--depths <percents>', 'where in the text the fact stands', percents, [0, 25, 50, 75, 100])
    .option('--samples <n>', 'questions for each context and depth', wholeNumber(1), 8)
    .option('--seed <n>', 'of questions, and of the prompts that are timed', wholeNumber(0), 1)
    .option('--sequences <counts>', 'timed: sequences that a step extends together', wholeNumbers, [1, 8])
    .option('--repetitions <n>', 'timed: turns of each; 0: no times', wholeNumber(0), 5)
    .option('--step-tokens <n>', 'tokens of one prefill step', wholeNumber(32), 512)
    .option('--cores <n>', 'cores to compute on; all if absent', wholeNumber(1))
    .addOption(isaOption())
    .option('--json <file>', 'write the rows to a file', fileToWrite)
    .option('--html <file>', 'write a report with plots', fileToWrite)
    .action((model: string | undefined, options: QualityOptions) => runQuality(argv, model, options));
}

async function runQuality(
  argv: readonly string[],
  model: string | undefined,
  options: QualityOptions,
): Promise<void> {
  const origin = originOf(['quality', ...argv]);
  const folder = model === undefined ? demoModel : path.resolve(model);
  if (model !== undefined && options.text === undefined) {
    notice("text: the demo model's own; with --text FILE perplexity says more of this model");
  }
  const policies =
    options.policies ?? (options.beside.length > 0 ? [exactPolicy] : offeredPolicies).map(({ name }) => name);
  const plan = await planFor(folder, options);
  const room: PolicyRoom = {
    model: folder,
    weights: options.weights,
    ...roomFor(plan),
    engine: {
      maxStepTokens: options.stepTokens,
      cores: options.cores,
      isa: options.isa,
    },
  };
  const contenders = [
    ...[...new Set(policies)]
      .filter((name) => name !== exactPolicy.name)
      .map((name) => ({ name, policy: policyNamed(name), room })),
    ...options.beside.map((other) => ({
      name: path.basename(other),
      policy: exactPolicy,
      room: { ...room, model: path.resolve(other) },
    })),
  ];
  for (const other of options.beside) await checkSameText(folder, path.resolve(other));
  let rows = new Rows(origin);
  await withDevice(exactPolicy, room, async (exactDevice) => {
    const exact = await withProgress(exactPolicy.name, (onProgress) =>
      measureExact(exactPolicy.name, exactDevice, plan, onProgress),
    );
    tell(exact);
    const compared: ComparedFigures[] = [];
    // After each policy, so that a long run that is cut short has not been for nothing.
    const write = () => {
      rows = new Rows(origin);
      if (policies.includes(exactPolicy.name)) addFigures(rows, exact, undefined, plan);
      for (const figures of compared) addFigures(rows, figures, exact, plan);
      if (options.json) rows.write(options.json);
      if (options.html)
        writeFileSync(options.html, renderQuality(rows.all, compared, plan.windows[0]!.length, origin));
    };
    write();
    for (const { name, policy, room: own } of contenders) {
      await withDevice(policy, own, async (device) => {
        const figures = await withProgress(name, (onProgress) =>
          measureBesideExact(name, device, { device: exactDevice, figures: exact }, plan, onProgress),
        );
        tell(figures);
        compared.push(figures);
      });
      write();
    }
  });
  print(formatRows(rows.all));
}

/** A model that is compared must read the same tokens. */
async function checkSameText(folder: string, other: string): Promise<void> {
  const { spec } = await readCheckpoint(other);
  const vocabulary = (of: string) => readFileSync(path.join(of, 'tokenizer.json'));
  if (!vocabulary(folder).equals(vocabulary(other))) {
    throw new Error(
      `--beside ${other}: its tokenizer.json is not that of ${folder}, so nothing can be compared`,
    );
  }
  const own = await readCheckpoint(folder);
  if (spec.vocab !== own.spec.vocab || spec.contextLength < own.spec.contextLength) {
    throw new Error(`--beside ${other}: its vocabulary or context is not that of ${folder}`);
  }
}

/** Reads and checks everything that can be wrong before a device is opened. */
async function planFor(folder: string, options: QualityOptions): Promise<QualityPlan> {
  const { spec } = await readCheckpoint(folder);
  const [tokenizer, template, { eosTokenIds }] = await Promise.all([
    openTokenizer(folder),
    openChatTemplate(folder),
    readGenerationDefaults(folder),
  ]);
  const fits = (tokens: number, option: string) => {
    if (tokens > spec.contextLength) {
      throw new Error(`${option} ${tokens}: the model's context is ${spec.contextLength} tokens`);
    }
  };
  const contexts = options.contexts ?? usualContexts.filter((context) => context <= spec.contextLength);
  if (contexts.length === 0) {
    throw new Error(`the model's context is ${spec.contextLength} tokens: say --contexts within it`);
  }
  for (const context of contexts) fits(context, '--contexts');
  const longest = Math.max(...contexts);
  const window = options.window ?? longest;
  fits(window, '--window');
  const timing = { ...options, sequences: distinct(options.sequences), context: longest };
  const growth = growthOf(timing);
  if (growth >= longest) {
    throw new Error(
      `timing decode steps takes ${growth} tokens of each sequence, as many as the longest context: ` +
        'fewer --repetitions or --sequences, or longer --contexts',
    );
  }
  const retrieval = { ...options, contexts: distinct(contexts), depths: distinct(options.depths) };
  return {
    windows: readWindows(options.text ?? demoText, tokenizer, { tokens: window, count: options.windows }),
    retrieval,
    cases: retrievalCases(retrieval, tokenizer, template),
    timing,
    model: { tokenizer, eosTokenIds },
  };
}

/** Slots and tokens that the hungriest of the measures holds at once. */
function roomFor({ windows, timing }: QualityPlan): { sequences: number; kvTokens: number } {
  const together = Math.max(...timing.sequences);
  return {
    sequences: Math.max(windows.length, together),
    // One more, for the sequence that has pages of both classes while it is packed.
    kvTokens: Math.max((windows.length + 1) * windows[0]!.length, (together + 1) * timing.context),
  };
}

async function withDevice(
  policy: CachePolicy,
  room: PolicyRoom,
  work: (device: Device) => Promise<void>,
): Promise<void> {
  notice(`opening ${room.model} with ${room.weights} weights, KV ${policy.name}`);
  const device = await openPolicy(policy, room);
  try {
    await work(device);
  } finally {
    await device.close();
  }
}

async function withProgress<T>(
  policy: string,
  work: (onProgress: (measure: string, done: number) => void) => Promise<T>,
): Promise<T> {
  const bars = new Map<string, ProgressBar>();
  try {
    return await work((measure, done) => {
      const bar = bars.get(measure) ?? new ProgressBar(`${policy}, ${measure}`, process.stderr);
      bars.set(measure, bar);
      bar.update(done);
    });
  } finally {
    for (const bar of bars.values()) bar.end();
  }
}

function tell(figures: QualityFigures | ComparedFigures): void {
  const facts = [
    `${readable(figures.bytesPerToken)} bytes a token`,
    `perplexity ${figures.perplexity.toFixed(3)}`,
    ...('divergence' in figures ? [`KL ${readable(figures.divergence.distribution.mean)} millinats`] : []),
    `${readable(100 * figures.retrieval.accuracy.accuracy())}% right answers`,
  ];
  notice(`${figures.policy}: ${facts.join(', ')}`);
}

function distinct(values: readonly number[]): number[] {
  return [...new Set(values)].sort((a, b) => a - b);
}

/** Separated by commas: `0,50,100`. */
function percents(text: string): number[] {
  return text.split(',').map((word) => {
    const value = wholeNumber(0)(word);
    if (value > 100) throw new InvalidArgumentError('Expected percents from 0 to 100.');
    return value;
  });
}

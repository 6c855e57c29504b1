import os from 'node:os';
import path from 'node:path';
import { Command, Option } from 'commander';
import { packageRoot } from '../../config/package-root.js';
import { originOf } from '../origin.js';
import { compare } from '../peer/compare.js';
import { installPeer } from '../peer/install.js';
import { keepBuild } from '../peer/processor-build.js';
import type { RunnerOptions } from '../peer/runner.js';
import { RunnerProcess } from '../peer/runner-process.js';
import { checkSameModel } from '../peer/same-model.js';
import { decodePromptTokens, decodeWorkload, prefillWorkload, type Workload } from '../peer/workloads.js';
import { formatRows } from '../print-rows.js';
import type { WeightFormat } from '../random-model/block-formats.js';
import type { ModelShape } from '../random-model/model-shape.js';
import { ggufName, makeRandomModel } from '../random-model/random-model.js';
import { Rows } from '../rows.js';
import { readable } from '../table.js';
import { fileToWrite, listOf, wholeNumber, wholeNumbers } from './arguments.js';
import { type Isa, isas } from './bench-choices.js';
import { notice, print } from './output.js';
import { addShapeOptions, type ShapeOptions, shapeFrom, shapeName } from './shape-options.js';

type WeightClass = RunnerOptions['weights'];

/** The GGUF format with as many bits as each class of ours. */
const counterparts: Readonly<Record<WeightClass, WeightFormat>> = {
  int8: 'q8_0',
  bf16: 'bf16',
  int4: 'q4_0',
};

const stepTokens = 512;

interface PeerOptions extends ShapeOptions {
  weights: WeightClass[];
  prompts: number[];
  sequences: number[];
  generate: number;
  threads: number;
  isa?: Isa;
  repetitions: number;
  quick?: true;
  json?: string;
}

export function peerCommand(argv: readonly string[]): Command {
  const command = new Command('peer')
    .description('compare with llama.cpp (node-llama-cpp) on the same random weights, in turns')
    .option('--weights <classes>', 'int8, bf16, int4, by commas', listOf(['int8', 'bf16', 'int4']), [
      'int8',
      'bf16',
      'int4',
    ])
    .option('--prompts <lengths>', 'prompts to read, in tokens', wholeNumbers, [512, 2048])
    .option('--sequences <counts>', 'how many sequences to extend together', wholeNumbers, [1, 8, 16])
    .option('--generate <n>', 'tokens to extend each by', wholeNumber(1), 128)
    .option('--threads <n>', 'threads of each side', wholeNumber(1), os.availableParallelism())
    .addOption(
      new Option(
        '--isa <name>',
        'instruction set of both sides, on Linux; the best of each if absent',
      ).choices(isas),
    )
    .option('--repetitions <n>', 'counted turns of each workload', wholeNumber(1), 5)
    .option('--quick', 'a first impression: int8, pp512 and tg32, 3 turns')
    .option('--json <file>', 'write the rows to a file', fileToWrite);
  return addShapeOptions(command).action((options: PeerOptions) => runPeer(argv, options));
}

async function runPeer(argv: readonly string[], given: PeerOptions): Promise<void> {
  const options: PeerOptions = given.quick
    ? { ...given, weights: ['int8'], prompts: [512], generate: 32, repetitions: 3 }
    : given;
  const rows = new Rows(originOf(['peer', ...argv]));
  const scratch = path.join(packageRoot, '.scratch');
  const prefix = path.join(scratch, options.isa === undefined ? 'peer' : `peer-${options.isa}`);
  const version = await installPeer(prefix, notice);
  if (options.isa !== undefined) keepBuild(prefix, options.isa);
  print(`Against node-llama-cpp ${version}, ${options.threads} threads each.\n`);
  const shape = shapeFrom(options);
  const folder = path.join(scratch, 'models', shapeName(shape));
  const gguf = options.weights.map((weights) => counterparts[weights]);
  makeRandomModel({ folder, shape, seed: 1, gguf, onProgress: notice });
  const workloads = [
    ...options.prompts.map((tokens) => prefillWorkload(tokens, shape.vocab)),
    ...options.sequences.map((count) => decodeWorkload(count, options.generate, shape.vocab)),
  ];
  for (const weights of options.weights) {
    await compareWeights({ weights, folder, prefix, shape, workloads, options, rows });
    if (options.json) rows.write(options.json);
  }
  print(
    `\nTokens a second, medians of ${options.repetitions}; baseline is llama.cpp\n${formatRows(rows.all)}`,
  );
}

/** One class of weights: both sides load it, prove that it is the same model, and run the workloads in turns. */
async function compareWeights(run: {
  weights: WeightClass;
  folder: string;
  prefix: string;
  shape: ModelShape;
  workloads: readonly Workload[];
  options: PeerOptions;
  rows: Rows;
}): Promise<void> {
  const { weights, folder, prefix, options, rows } = run;
  const format = counterparts[weights];
  const ours = new RunnerProcess('tandem', new URL('../peer/tandem-runner.js', import.meta.url));
  const theirs = new RunnerProcess('llama.cpp', new URL('../peer/llama-runner.js', import.meta.url), [
    prefix,
  ]);
  const common = {
    threads: options.threads,
    isa: options.isa,
    stepTokens,
    contextTokens: Math.max(...options.prompts, decodePromptTokens + options.generate) + 1,
    sequences: Math.max(...options.sequences),
    weights,
  };
  const title = `${weights} / ${format.toUpperCase()}`;
  try {
    const ourInfo = await ours.open({ ...common, model: folder });
    const theirInfo = await theirs.open({ ...common, model: path.join(folder, ggufName(format)) });
    print(`\n${title}\n  tandem     ${ourInfo.description}\n  llama.cpp  ${theirInfo.description}\n`);
    const agreement = await checkSameModel(ours, theirs, run.shape.vocab, weights);
    print(
      `  same model: logits correlate by ${agreement.correlation.toFixed(4)}, ` +
        `${agreement.sameBest} of ${agreement.prompts} most likely tokens are the same\n`,
    );
    const found = await compare(
      ours,
      theirs,
      run.workloads,
      options.repetitions,
      (workload, turn, our, their) =>
        print(
          `  ${workload} #${turn}: ${readable(our)} against ${readable(their)}, ${readable(our / their)}x\n`,
        ),
    );
    for (const { workload, ours: our, theirs: their } of found) {
      rows.add(`${title}, ${workload}`, our, 'tok/s', their);
    }
    rows.add(`${title}, correlation of logits`, agreement.correlation, 'of 1');
  } finally {
    await Promise.all([ours.close(), theirs.close()]);
  }
}

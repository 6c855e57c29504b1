import path from 'node:path';
import { Command } from 'commander';
import { packageRoot } from '../../config/package-root.js';
import { type GrowthPlan, growthTokens, measureGrowth, tokensPerContext } from '../device/growth.js';
import { type BenchDevice, type BenchDeviceOptions, openBenchDevice } from '../device/open.js';
import { measureThroughput, type ThroughputPlan } from '../device/throughput.js';
import { originOf } from '../origin.js';
import { formatRows } from '../print-rows.js';
import type { ModelShape } from '../random-model/model-shape.js';
import { makeRandomModel } from '../random-model/random-model.js';
import { Rows } from '../rows.js';
import { readable } from '../table.js';
import { fileToWrite, listOf, wholeNumber, wholeNumbers } from './arguments.js';
import { deviceOption, type Isa, isaOption } from './bench-choices.js';
import { notice, print } from './output.js';
import { addShapeOptions, type ShapeOptions, shapeFrom, shapeName } from './shape-options.js';

interface EngineOptions extends ShapeOptions, Omit<ThroughputPlan, 'repetitions'> {
  model?: string;
  weights: BenchDeviceOptions['weights'][];
  kv: BenchDeviceOptions['kv'][];
  stepTokens: number;
  device: NonNullable<BenchDeviceOptions['device']>;
  cores?: number;
  isa?: Isa;
  repetitions: number;
  growth?: true;
  contexts: number[];
  growthSequences: number[];
  json?: string;
}

export function engineCommand(argv: readonly string[]): Command {
  const command = new Command('engine')
    .description('measure steps of the device alone: no HTTP, no scheduler, no tokenizer')
    .option('--model <folder>', 'model to load; one of random weights if absent')
    .option('--weights <classes>', 'int8, bf16, int4, by commas', listOf(['int8', 'bf16', 'int4']), ['int8'])
    .option(
      '--kv <classes>',
      'exact, int8, int4, int2, zip, by commas',
      listOf(['exact', 'int8', 'int4', 'int2', 'zip']),
      ['exact'],
    )
    .option('--prompts <lengths>', 'prompts to read, in tokens', wholeNumbers, [512, 2048])
    .option('--sequences <counts>', 'how many sequences to extend together', wholeNumbers, [1, 8, 16])
    .option('--context <n>', 'tokens each holds before', wholeNumber(1), 32)
    .option('--generate <n>', 'tokens to extend each by', wholeNumber(1), 128)
    .option('--step-tokens <n>', 'tokens of one prefill step', wholeNumber(32), 512)
    .addOption(deviceOption())
    .option('--cores <n>', 'cores to compute on; all if absent', wholeNumber(1))
    .addOption(isaOption())
    .option('--repetitions <n>', 'counted turns of each workload', wholeNumber(1), 5)
    .option('--growth', 'instead: how step time grows with context length and running sequences')
    .option('--contexts <lengths>', 'of --growth', wholeNumbers, [1024, 2048, 4096, 8192, 16384, 32768])
    .option('--growth-sequences <counts>', 'of --growth', wholeNumbers, [1, 2, 4, 8, 16, 32, 64])
    .option('--json <file>', 'write the rows to a file', fileToWrite);
  return addShapeOptions(command).action((options: EngineOptions) => runEngine(argv, options));
}

async function runEngine(argv: readonly string[], options: EngineOptions): Promise<void> {
  const rows = new Rows(originOf(['engine', ...argv]));
  const model = options.model ?? randomModel(shapeFrom(options));
  if (options.growth) await runGrowth(model, options, rows);
  else await runThroughput(model, options, rows);
  print(`\n${formatRows(rows.all)}`);
  if (options.json) rows.write(options.json);
}

function randomModel(shape: ModelShape): string {
  const folder = path.join(packageRoot, '.scratch', 'models', shapeName(shape));
  makeRandomModel({ folder, shape, seed: 1, gguf: [], onProgress: notice });
  return folder;
}

async function runThroughput(model: string, options: EngineOptions, rows: Rows): Promise<void> {
  const classes = options.weights.flatMap((weights) => options.kv.map((kv) => ({ weights, kv })));
  const longest = Math.max(...options.prompts);
  const together = Math.max(...options.sequences);
  const kvTokens = Math.max(longest, together * (options.context + options.generate));
  await withDevices(
    classes.map((chosen) => ({ ...common(model, options), ...chosen, sequences: together, kvTokens })),
    async (devices) => {
      const titles = classes.map(({ weights, kv }) => `${weights}, KV ${kv}`);
      const found = await measureThroughput(devices, options, (at, workload, rate) =>
        print(`${titles[at]}, ${workload}: ${readable(rate)} tok/s\n`),
      );
      for (const { workload, rates } of found) {
        for (const [at, rate] of rates.entries()) {
          if (Number.isNaN(rate)) continue;
          rows.add(
            `${titles[at]}, ${workload}`,
            rate,
            'tok/s',
            at === 0 || Number.isNaN(rates[0]!) ? null : rates[0]!,
          );
        }
      }
    },
  );
}

async function runGrowth(model: string, options: EngineOptions, rows: Rows): Promise<void> {
  const plan: GrowthPlan = {
    contexts: rising(options.contexts, tokensPerContext(options.stepTokens)),
    sequences: rising(options.growthSequences, 1),
    repetitions: options.repetitions,
  };
  const sequences = Math.max(...plan.sequences);
  const kvTokens = growthTokens(plan, options.stepTokens);
  const [weights] = options.weights;
  const [kv] = options.kv;
  const device = { ...common(model, options), weights: weights!, kv: kv!, sequences, kvTokens };
  await withDevices([device], async ([opened]) => {
    const { byContext, bySequences } = await measureGrowth(opened!.device, plan, notice);
    const add = (name: string, seconds: number, first: number) =>
      rows.add(name, seconds * 1000, 'ms', first === seconds ? null : first * 1000);
    for (const { context, decodeStep } of byContext) {
      add(`decode step, 1 sequence of ${context} tokens`, decodeStep, byContext[0]!.decodeStep);
    }
    const { maxStepTokens } = opened!.device.info;
    for (const { context, prefillStep } of byContext) {
      add(`prefill step of ${maxStepTokens} after ${context} tokens`, prefillStep, byContext[0]!.prefillStep);
    }
    for (const { sequences: count, decodeStep } of bySequences) {
      const together = count === 1 ? '1 sequence' : `${count} sequences`;
      add(`decode step, ${together} of 256 tokens`, decodeStep, bySequences[0]!.decodeStep);
    }
  });
}

function common(model: string, options: EngineOptions) {
  return {
    model,
    device: options.device,
    stepTokens: options.stepTokens,
    ...(options.cores !== undefined && { cores: options.cores }),
    ...(options.isa !== undefined && { isa: options.isa }),
  };
}

async function withDevices(
  wanted: readonly BenchDeviceOptions[],
  work: (devices: readonly BenchDevice[]) => Promise<void>,
): Promise<void> {
  const devices: BenchDevice[] = [];
  try {
    for (const options of wanted) {
      notice(`opening ${options.model} with ${options.weights} weights, KV ${options.kv}`);
      devices.push(await openBenchDevice(options));
    }
    const { kind, name, isa, units } = devices[0]!.device.info;
    print(`${name}: ${isa} on ${units} ${kind === 'cuda' ? 'SMs' : 'cores'}\n`);
    await work(devices);
  } finally {
    for (const { device } of devices) await device.close();
  }
}

/** Throws a RangeError if a value is not at least `step` above the one before. */
function rising(values: readonly number[], step: number): readonly number[] {
  for (const [index, value] of values.entries()) {
    if (index > 0 && value - values[index - 1]! < step) {
      throw new RangeError(`${value} after ${values[index - 1]}: expected at least ${step} more`);
    }
  }
  return values;
}

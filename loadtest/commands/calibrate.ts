import { writeFileSync } from 'node:fs';
import os from 'node:os';
import process from 'node:process';
import { Command, CommanderError } from 'commander';
import { cacheFolder } from '../../config/cache-folder.js';
import { addSettingFlags, givenFlags } from '../../config/flags.js';
import { loadConfig } from '../../config/load.js';
import { ConfigError, type ResolvedConfig } from '../../config/resolve.js';
import {
  type Calibration,
  calibrate,
  type DeviceConstants,
  EngineError,
  openCalibrationDevice,
  operatorClasses,
  saveConstants,
} from '../../engine/index.js';
import { originOf } from '../origin.js';
import { formatRows } from '../print-rows.js';
import { Rows } from '../rows.js';
import { alignColumns, readable } from '../table.js';
import { fileToWrite, wholeNumber } from './arguments.js';
import { notice, print } from './output.js';
import { ProgressBar } from './progress-bar.js';

interface CalibrateOptions {
  readonly config?: string;
  readonly seconds: number;
  readonly quick?: true;
  readonly json?: string;
  readonly record?: string;
}

/** `tandem calibrate [MODEL]`: measures this device with this model, for the cost model. Returns the exit code. */
export async function run(argv: readonly string[]): Promise<number> {
  const command = new Command('tandem calibrate')
    .description(
      'Measures how fast this device runs this model, so that the scheduler can foresee its steps.',
    )
    .argument('[MODEL]', 'model folder in Hugging Face layout (default: the built-in demo model)')
    .option('--seconds <n>', 'what the measurement may take, about', wholeNumber(1), 60)
    .option('--quick', 'some steps only, to see that it works')
    .option('--json <file>', 'write the held-out errors to a file', fileToWrite)
    .option('--record <file>', 'write every measured step to a file')
    .showHelpAfterError('(--help lists all options)')
    .exitOverride();
  addSettingFlags(command, ['model', 'engine']);
  try {
    command.parse(argv, { from: 'user' });
    await runCalibrate(argv, configOf(command), command.opts<CalibrateOptions>());
    return 0;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode;
    if (!(error instanceof ConfigError || error instanceof EngineError || error instanceof RangeError))
      throw error;
    for (const line of error.message.split('\n')) notice(`tandem: ${line}`);
    return 1;
  }
}

function configOf(command: Command): ResolvedConfig {
  const flags = givenFlags(command);
  const model = command.args[0];
  if (model !== undefined) {
    if (flags['model.path'] !== undefined) {
      throw new ConfigError(['the model is named twice: give it as MODEL or as --model']);
    }
    flags['model.path'] = model;
  }
  return loadConfig({ flags, configFile: command.opts<CalibrateOptions>().config });
}

async function runCalibrate(
  argv: readonly string[],
  { settings }: ResolvedConfig,
  options: CalibrateOptions,
): Promise<void> {
  const { weights } = settings.model;
  const rows = new Rows({ ...originOf([]), command: commandLine(argv) });
  notice(`opening ${settings.model.path} with ${weights} weights`);
  const { device, maxSequences, poolBytes, contextLength, notes } = await openCalibrationDevice(settings);
  const bar = new ProgressBar('measuring', process.stderr);
  try {
    const { info } = device;
    print(`${info.name}, ${info.isa}, ${info.units} units\n`);
    for (const note of notes) notice(note);
    const found = await calibrate(device, {
      weights,
      seconds: options.seconds,
      quick: options.quick ?? false,
      maxSequences,
      poolBytes,
      contextLength,
      clock: () => performance.now() / 1000,
      otherPrograms,
      onProgress: (done) => bar.update(done),
    });
    bar.end();
    print(`\n${formatConstants(found.constants)}\n`);
    addRows(rows, found);
    if (found.disturbedRuns > 0) {
      notice(
        `other programs computed during ${found.disturbedRuns} runs; constants are best on a machine that does nothing else`,
      );
    }
    print(`\n${formatRows(rows.all)}`);
    const key = { device: info, spec: info.spec, weights };
    print(`\nKept in ${saveConstants(cacheFolder(), key, found.constants)}\n`);
    if (options.record) {
      const { kind, name, isa, units } = info;
      const record = { device: { kind, name, isa, units }, spec: info.spec, weights, samples: found.samples };
      writeFileSync(options.record, `${JSON.stringify(record)}\n`);
    }
  } finally {
    bar.end();
    await device.close();
  }
  if (options.json) rows.write(options.json);
}

/** Seconds of all cores' time that this process did not use. */
function otherPrograms(): number {
  const milliseconds = os.cpus().reduce((sum, { times }) => sum + times.user + times.nice + times.sys, 0);
  const { user, system } = process.cpuUsage();
  return milliseconds / 1000 - (user + system) / 1e6;
}

function addRows(rows: Rows, { samples, heldOut, preset }: Calibration): void {
  rows.add('steps measured', samples.length, 'steps');
  rows.add('held-out error, median', heldOut.median * 100, '%', preset.median * 100);
  rows.add('held-out error, p95', heldOut.p95 * 100, '%', preset.p95 * 100);
}

/** The constants as a person reads them. */
function formatConstants({ memory, operators }: DeviceConstants): string {
  const head = ['', 'GFLOP/s', 'saturates at', 'slope', 'overhead', 'bandwidth', 'exposed', 'launch, us'];
  const lines = operatorClasses.map((name) => {
    const operator = operators[name];
    return [
      name,
      readable(operator.flopsPerSecond / 1e9),
      ...[operator.saturation, operator.slope, operator.overhead, operator.bandwidth, operator.exposed].map(
        readable,
      ),
      readable(operator.launchSeconds * 1e6),
    ];
  });
  return [
    ...alignColumns([head, ...lines]),
    `memory: ${readable(memory.bytesPerSecond / 1e9)} GB/s, saturates at ${readable(memory.saturation)}, slope ` +
      `${readable(memory.slope)}; both lanes together ${readable(memory.shared)} of it; arithmetic beside a busy lane ` +
      `takes ${readable(memory.interference * 100)}% longer, memory beside arithmetic on all units ${readable(memory.crowding * 100)}%`,
  ].join('\n');
}

/** `originOf` speaks of `tandem bench`. */
function commandLine(argv: readonly string[]): string {
  return originOf(argv).command.replace('tandem bench', 'tandem calibrate');
}

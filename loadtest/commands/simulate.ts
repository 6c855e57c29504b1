import { writeFileSync } from 'node:fs';
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import {
  type GpuName,
  gpus,
  type PrefillOrder,
  type SimulatedModelName,
  simulatedModels,
} from '../../engine/index.js';
import { originOf } from '../origin.js';
import { formatRows } from '../print-rows.js';
import type { Bars } from '../report/chart.js';
import { Rows } from '../rows.js';
import { parseSlo, type Slo } from '../serve/slo.js';
import { findCapacity } from '../simulate/capacity.js';
import { type ExperimentName, experimentNames, runExperiment } from '../simulate/experiments/experiments.js';
import { type KvPolicyName, kvPolicies, kvPolicyNames } from '../simulate/kv-policies.js';
import type { MachineSetups } from '../simulate/machine-setup.js';
import { type PolicyName, policyDefaults, policyNames } from '../simulate/policies.js';
import { type Report, renderReport } from '../simulate/report/report.js';
import { simulate } from '../simulate/run.js';
import { makeSetup, type Setup } from '../simulate/setup.js';
import { addRows, type RunSummary, summarize } from '../simulate/summary.js';
import { type Load, type Variant, variant } from '../simulate/variant.js';
import { syntheticNames, syntheticWorkload } from '../simulate/workloads/synthetic.js';
import { readTrace } from '../simulate/workloads/trace.js';
import type { Workload } from '../simulate/workloads/workload.js';
import { readable } from '../table.js';
import { fileToWrite, listOf, positiveNumber, wholeNumber } from './arguments.js';
import { checkMachineOptions, machineSetups } from './machine-options.js';
import { notice, print } from './output.js';

interface SimulateOptions {
  trace?: string;
  workload: string;
  burstiness: number;
  lengthScale: number;
  policy: PolicyName[];
  prefillOrder: PrefillOrder[];
  machine?: string;
  gpu: GpuName;
  model: SimulatedModelName;
  kv: KvPolicyName;
  rate?: number[];
  requests?: number;
  slo: Slo;
  chunkBudget: number;
  staticShare: number;
  slots: number;
  maxStepTokens: number;
  hostMemory: number;
  attain: number;
  plan?: true;
  experiment?: ExperimentName;
  seed: number;
  json?: string;
  html?: string;
}

/** `tandem simulate ...`; `argv` is what follows. Returns the exit code. */
export async function run(argv: string[]): Promise<number> {
  try {
    await simulateCommand(argv).exitOverride().showSuggestionAfterError().parseAsync(argv, { from: 'user' });
    return 0;
  } catch (error) {
    // Commander has printed its own message already.
    if (error instanceof CommanderError) return error.exitCode;
    notice(`tandem simulate: ${(error as Error).message}`);
    return 1;
  }
}

function simulateCommand(argv: readonly string[]): Command {
  return new Command('tandem simulate')
    .description(
      'Runs the scheduler in virtual time, on a simulated GPU without hardware or model files, or on this machine.',
    )
    .argument('[flags...]', 'behind "--", with --machine: flags of "tandem serve"')
    .addOption(
      new Option(
        '--trace <file>',
        'recorded requests: Azure CSV, Mooncake JSON lines, or a CSV of lengths',
      ).conflicts('workload'),
    )
    .addOption(new Option('--workload <name>', 'drawn requests').choices(syntheticNames).default('mixed'))
    .option('--burstiness <n>', 'of drawn arrivals: 1 Poisson, above that in bursts', positiveNumber, 1)
    .option('--length-scale <n>', "factor on a trace's lengths", positiveNumber, 1)
    .option('--policy <names>', `${policyNames.join(', ')}, by commas`, listOf(policyNames), [
      'nexus',
      'chunked',
    ])
    .option('--prefill-order <orders>', 'spf, fcfs, by commas', listOf(['spf', 'fcfs']), ['spf'])
    .addOption(
      new Option(
        '--machine <folder>',
        'this computer with the model in the folder, as "tandem calibrate" knows them',
      ).conflicts(['gpu', 'model', 'experiment']),
    )
    .addOption(new Option('--gpu <name>', 'device').choices(Object.keys(gpus)).default('l20'))
    .addOption(
      new Option('--model <name>', 'sizes of the model')
        .choices(Object.keys(simulatedModels))
        .default('llama-3.1-8b'),
    )
    .addOption(
      new Option(
        '--kv <policy>',
        kvPolicyNames.map((name) => `${name}: ${kvPolicies[name].about}`).join('; '),
      )
        .choices(kvPolicyNames)
        .default('bf16'),
    )
    .option('--rate <rates>', 'requests a second, by commas; as recorded if absent', rates)
    .option('--requests <n>', 'of each run; 1000 if absent, 400 for experiments', wholeNumber(1))
    .option(
      '--slo <bounds>',
      'objectives, as ttft=2s,tpot=50ms (also tbt, e2e)',
      slo,
      parseSlo('ttft=5s,tpot=100ms'),
    )
    .option('--chunk-budget <tokens>', 'of a step of chunked', wholeNumber(32), policyDefaults.chunkBudget)
    .option(
      '--static-share <part>',
      "prompts' part of the units in static",
      share,
      policyDefaults.staticShare,
    )
    .option('--slots <n>', 'sequences at once', wholeNumber(1), 1024)
    .option('--max-step-tokens <n>', 'tokens of one step', wholeNumber(64), 8192)
    .option('--host-memory <bytes>', 'for sequences that must give way', wholeNumber(0), 64e9)
    .option('--plan', 'instead: the highest rate one device carries, and how many the load needs')
    .option('--attain <part>', 'of --plan: part of the requests that must meet the objectives', share, 0.99)
    .addOption(
      new Option(
        '--experiment <name>',
        'instead: a set of runs whose results are in docs/results.md',
      ).choices(experimentNames),
    )
    .option('--seed <n>', 'of requests, noise and the device', wholeNumber(0), 1)
    .option('--json <file>', 'write the rows to a file', fileToWrite)
    .option('--html <file>', 'write a report with plots', fileToWrite)
    .action((flags: string[], options: SimulateOptions, command: Command) => {
      checkMachineOptions(command, options.machine !== undefined, options.policy, flags);
      return runSimulate(argv, flags, options);
    });
}

async function runSimulate(
  argv: readonly string[],
  flags: readonly string[],
  options: SimulateOptions,
): Promise<void> {
  const origin = originOf(argv, 'tandem simulate');
  const rows = new Rows(origin);
  const report = options.experiment
    ? runExperiment(options.experiment, {
        requests: options.requests ?? 400,
        seed: options.seed,
        rows,
        onProgress: notice,
      })
    : await runLoad(options, flags, rows);
  print(formatRows(rows.all));
  if (options.json) rows.write(options.json);
  if (options.html) writeFileSync(options.html, renderReport(report, origin));
}

async function runLoad(options: SimulateOptions, flags: readonly string[], rows: Rows): Promise<Report> {
  const setups =
    options.machine === undefined ? gpuSetups(options) : await machineSetups(options.machine, flags);
  return options.plan ? runPlan(options, setups, rows) : runRates(options, setups, rows);
}

/** The device of a run, and with another kind of KV cache. */
type Setups = Pick<MachineSetups, 'setup' | 'withKv'>;

function gpuSetups(options: SimulateOptions): Setups {
  const { gpu, model, seed, slots, maxStepTokens, hostMemory } = options;
  const withKv = (kv: KvPolicyName) =>
    makeSetup({ gpu, model, kv, seed, slots, maxStepTokens, hostBytes: hostMemory });
  return { setup: withKv(options.kv), withKv };
}

function runRates(options: SimulateOptions, { setup }: Setups, rows: Rows): Report {
  const load = loadFrom(options, setup);
  const runs: RunSummary[] = [];
  for (const rate of ratesFor(options, load.workload)) {
    for (const { label, ...policy } of variantsFrom(options)) {
      const begin = performance.now();
      const run = summarize(simulate({ ...load, ...policy, rate }), label);
      const seconds = (performance.now() - begin) / 1000;
      notice(
        `${label} at ${readable(rate)}/s: ${readable(run.attained * 100)}% met, goodput ${readable(run.goodput)}/s, ` +
          `TTFT p50 ${readable(run.ttft.p50)} ms, TBT p95 ${readable(run.tbt.p95)} ms (${readable(seconds)} s)`,
      );
      addRows(rows, run);
      runs.push(run);
    }
  }
  return {
    title: titleOf(load),
    facts: factsOf(options, load),
    sections: [{ title: 'Figures', slo: options.slo, runs, bars: [] }],
  };
}

function runPlan(options: SimulateOptions, { setup, withKv }: Setups, rows: Rows): Report {
  const load = loadFrom(options, setup);
  const { slo, attain } = options;
  const wanted = options.rate?.[0] ?? load.workload.recordedRate;
  const bars: Bars['bars'][number][] = [];
  for (const [index, each] of variantsFrom(options).entries()) {
    const devices = each.policy === 'disaggregated' ? 2 : 1;
    for (const kv of kvPolicyNames) {
      const { rate } = findCapacity({ ...load, setup: withKv(kv) }, each, attain);
      const name = `${each.label}, KV ${kv}`;
      notice(`${name}: ${rate === 0 ? 'carries no rate' : `${readable(rate)}/s`}`);
      rows.add(
        `${name}, rate that ${devices === 1 ? 'one device carries' : 'two devices carry'}`,
        rate,
        'requests/s',
      );
      if (wanted !== null && rate > 0) {
        rows.add(`${name}, devices for ${readable(wanted)}/s`, Math.ceil(wanted / rate) * devices, 'devices');
      }
      bars.push({ name, value: rate, color: index });
    }
  }
  const about = `${readable(attain * 100)}% of the requests within the objectives`;
  return {
    title: `${titleOf(load)}: the rate carried`,
    facts: factsOf(options, load),
    sections: [
      {
        title: 'Capacity',
        slo,
        runs: [],
        bars: [{ title: 'Rate carried, requests per second', about, bars }],
      },
    ],
  };
}

function loadFrom(options: SimulateOptions, setup: Setup): Load {
  const workload =
    options.trace === undefined
      ? syntheticWorkload(options.workload, options.burstiness)
      : readTrace(options.trace, { lengthScale: options.lengthScale });
  return {
    setup,
    slo: options.slo,
    workload,
    requests: Math.min(options.requests ?? 1000, workload.count),
    seed: options.seed,
  };
}

function variantsFrom({ policy, prefillOrder, chunkBudget, staticShare }: SimulateOptions): Variant[] {
  const policyOptions = { chunkBudget, staticShare, knowsSlo: true };
  return policy.flatMap((name) => prefillOrder.map((order) => variant(name, order, policyOptions)));
}

function ratesFor(options: SimulateOptions, workload: Workload): number[] {
  if (options.rate) return options.rate;
  if (workload.recordedRate !== null) return [workload.recordedRate];
  throw new Error(`"${workload.name}" has no times of its own: say --rate, in requests a second`);
}

function titleOf({ setup, workload }: Load): string {
  return `${setup.modelName} on ${setup.deviceName}, ${workload.name}`;
}

function factsOf(options: SimulateOptions, { setup, requests }: Load): (readonly [string, string])[] {
  const objectives = Object.entries(options.slo).map(([name, ms]) => `${name.toUpperCase()} ${ms} ms`);
  return [
    [
      'KV cache',
      `${setup.kv}, ${Math.floor(setup.kvBytes / setup.kvBytesPerToken).toLocaleString('en-US')} tokens`,
    ],
    ['requests of a run', requests.toLocaleString('en-US')],
    ['objectives', objectives.join(', ')],
    ['seed', String(options.seed)],
  ];
}

/** Separated by commas: `0.5,1,2`. */
function rates(text: string): number[] {
  return text.split(',').map(positiveNumber);
}

function share(text: string): number {
  const value = positiveNumber(text);
  if (value > 1) throw new InvalidArgumentError('Expected a part of 1.');
  return value;
}

function slo(text: string): Slo {
  try {
    return parseSlo(text);
  } catch (error) {
    throw new InvalidArgumentError((error as Error).message);
  }
}

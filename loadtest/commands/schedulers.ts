import { existsSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Command, Option } from 'commander';
import { packageRoot } from '../../config/package-root.js';
import type { Settings } from '../../config/schema.js';
import { readCheckpoint } from '../../engine/index.js';
import { originOf } from '../origin.js';
import { installPeer } from '../peer/install.js';
import { formatRows } from '../print-rows.js';
import { Random } from '../random.js';
import type { WeightFormat } from '../random-model/block-formats.js';
import { ggufName } from '../random-model/random-model.js';
import { Rows } from '../rows.js';
import { type ContenderName, contenderNames, contendersOf } from '../schedulers/contenders.js';
import {
  addFigures,
  type Figures,
  medians,
  mixedRowsOf,
  simulatedRows,
  traceRows,
} from '../schedulers/figures.js';
import { inTurns, type Side } from '../schedulers/in-turns.js';
import { llamaSide } from '../schedulers/llama-side.js';
import { renderTradeOff, tradeOff } from '../schedulers/report.js';
import { askMixed, askTrace, type ForeseeReplay, flagsOf, serverSide } from '../schedulers/server-side.js';
import { simulateReplay } from '../schedulers/simulated-side.js';
import type { MixedPlan } from '../serve/mixed-scenario.js';
import { serveSettings } from '../serve/serve-settings.js';
import { parseSlo, type Slo } from '../serve/slo.js';
import { readReplay } from '../serve/trace-replay.js';
import { openMachineSetups } from '../simulate/machine-setup.js';
import { readable } from '../table.js';
import {
  fileToWrite,
  listOf,
  parsed,
  positiveNumber,
  positiveNumbers,
  wholeNumber,
  wholeNumbers,
} from './arguments.js';
import { notice, print } from './output.js';

type WeightClass = 'int8' | 'bf16' | 'int4';

interface SchedulersOptions {
  policies: ContenderName[];
  slack: number[];
  peer?: true;
  weights: WeightClass;
  repetitions: number;
  streams: number[];
  shortPrompt: number;
  longPrompt: number[];
  seconds: number;
  trace?: string;
  requests?: number;
  timeScale: number;
  lengthScale: number;
  rate?: number;
  slo?: Slo;
  simulated?: true;
  seed: number;
  json?: string;
  html?: string;
}

/** Prompts that are read with nothing beside them, each turn. */
const turnsAlone = 2;
/** The GGUF format with as many bits as each class of ours. */
const counterparts: Readonly<Record<WeightClass, WeightFormat>> = {
  int8: 'q8_0',
  bf16: 'bf16',
  int4: 'q4_0',
};
/** Of a prefill step, here and there: the default of both. */
const stepTokens = 512;

export function schedulersCommand(argv: readonly string[]): Command {
  return new Command('schedulers')
    .description('compare the schedulers on this machine: a server of its own for each, in turns')
    .argument('[MODEL]', 'model folder; the demo model if absent')
    .argument('[flags...]', 'behind "--": flags of "tandem serve" for every server')
    .option(
      '--policies <names>',
      `${contenderNames.join(', ')}, by commas; all if absent`,
      listOf(contenderNames),
      [...contenderNames],
    )
    .option(
      '--slack <factors>',
      'nexus once for each --decode-slack, by commas, as 1.1,1.5,2',
      positiveNumbers,
      [],
    )
    .option(
      '--peer',
      'llama.cpp too (node-llama-cpp), on the GGUF that "bench random-model --gguf" put into MODEL',
    )
    .addOption(
      new Option('--weights <class>', 'of every side').choices(['int8', 'bf16', 'int4']).default('int8'),
    )
    .option('--repetitions <n>', 'turns of each', wholeNumber(1), 3)
    .option('--streams <counts>', 'running streams; several by commas, one after another', wholeNumbers, [8])
    .option('--short-prompt <n>', 'tokens of their prompts', wholeNumber(1), 32)
    .option(
      '--long-prompt <lengths>',
      'tokens of the prompts that arrive, one after another; several lengths by commas, each with each of --streams',
      wholeNumbers,
      [2048],
    )
    .option('--seconds <n>', 'streams alone, and as long beside prompts', positiveNumber, 12)
    .addOption(
      new Option('--trace <file>', 'replay a recorded trace instead of streams and prompts').conflicts(
        'peer',
      ),
    )
    .option('--requests <n>', 'trace: only the first so many', wholeNumber(1))
    .option('--time-scale <n>', 'trace: a second of it takes so many', positiveNumber, 1)
    .option('--length-scale <n>', 'trace: times its prompts and outputs', positiveNumber, 1)
    .addOption(
      new Option('--rate <n>', "trace: arrivals a second, in place of the trace's own pace")
        .argParser(positiveNumber)
        .conflicts('timeScale'),
    )
    .option('--slo <bounds>', 'trace: count goodput, as ttft=500ms,tbt=100ms', parsed(parseSlo))
    .option('--simulated', 'trace: simulate each replay too, by what "tandem calibrate" found, and compare')
    .option('--seed <n>', 'of prompts', wholeNumber(0), 1)
    .option('--json <file>', 'write the rows to a file', fileToWrite)
    .addOption(
      new Option('--html <file>', 'write a page with the trade-off as a plot')
        .argParser(fileToWrite)
        .conflicts('trace'),
    )
    .action(
      async (first: string | undefined, rest: string[], options: SchedulersOptions, command: Command) => {
        checkOptions(command);
        // Without MODEL, what stands behind "--" comes first.
        const isFlag = first?.startsWith('-') ?? false;
        await runSchedulers(argv, isFlag ? undefined : first, isFlag ? [first!, ...rest] : rest, options);
      },
    );
}

/** Throws an Error for an option that was given and would do nothing. */
function checkOptions(command: Command): void {
  const hasTrace = command.getOptionValue('trace') !== undefined;
  const ofTrace = ['requests', 'timeScale', 'lengthScale', 'rate', 'slo', 'simulated'];
  const ofStreams = ['streams', 'shortPrompt', 'longPrompt', 'seconds'];
  for (const option of command.options) {
    const name = option.attributeName();
    if (command.getOptionValueSource(name) !== 'cli') continue;
    if (hasTrace && ofStreams.includes(name)) throw new Error(`${option.long} does nothing with --trace`);
    if (!hasTrace && ofTrace.includes(name)) throw new Error(`${option.long} does nothing without --trace`);
  }
}

async function runSchedulers(
  argv: readonly string[],
  model: string | undefined,
  flags: readonly string[],
  options: SchedulersOptions,
): Promise<void> {
  const origin = originOf(['schedulers', ...argv]);
  const contenders = contendersOf(options.policies, options.slack);
  const reference = contenders.find(({ isReference }) => isReference);
  if (options.html && !reference) throw new Error('--html compares with prefill-first: add it to --policies');
  const plans = plansOf(options);
  if (plans.length > 1 && (options.html || options.peer)) {
    throw new Error(
      `${options.html ? '--html' : '--peer'} takes one number of --streams and one --long-prompt`,
    );
  }
  const { ask, shown } = scenarioOf(options, model);
  const serverOptions = {
    model,
    flags: ['--weights', options.weights, '--max-step-tokens', String(stepTokens), ...flags],
    seed: options.seed,
    onFacts: (facts: string) => notice(`  ${facts}`),
  };
  // A machine that was never calibrated should not show only after the first replay.
  if (options.simulated) await openMachineSetups(settingsOf(model, flagsOf(contenders[0]!, serverOptions)));
  const sides: Side[] = contenders.map((contender) => serverSide(contender, serverOptions, ask));
  if (options.peer) sides.push(await peerSide(model, options));
  const onTurn = (side: string, repetition: number, figures: Figures) => {
    const measured = shown.filter(({ figure }) => figures[figure] !== undefined);
    const values = measured.map(({ figure, title }) => `${title} ${readable(figures[figure]!)}`);
    notice(`${side} #${repetition}: ${values.join('; ')}`);
  };
  let rows = new Rows(origin);
  // After each turn, so that a run of an hour that is cut short has not been for nothing.
  await inTurns(sides, options.repetitions, onTurn, (turns) => {
    rows = new Rows(origin);
    const found = new Map(Array.from(turns, ([side, list]) => [side, medians(list)]));
    const base = reference && found.get(reference.name);
    for (const [side, figures] of found) addFigures(rows, side, shown, figures, base);
    if (options.json) rows.write(options.json);
    if (options.html && base)
      writeFileSync(options.html, renderTradeOff(tradeOff(found, base), rows.all, origin));
  });
  print(formatRows(rows.all));
}

function scenarioOf(options: SchedulersOptions, model: string | undefined) {
  const { trace, slo, seed } = options;
  if (trace === undefined) {
    const plans = plansOf(options);
    return { ask: askMixed(plans), shown: mixedRowsOf(plans) };
  }
  const arrivals = readReplay({ ...options, file: trace }, new Random(seed));
  if (!options.simulated) return { ask: askTrace(arrivals, slo), shown: traceRows(slo) };
  const foresee: ForeseeReplay = (flags, sent, kvBlocks) =>
    simulateReplay(settingsOf(model, flags), sent, kvBlocks);
  return { ask: askTrace(arrivals, slo, foresee), shown: [...traceRows(slo), ...simulatedRows(slo)] };
}

/** What a server of ours is started with. */
function settingsOf(model: string | undefined, flags: readonly string[]): Settings {
  return serveSettings(model, flags).settings;
}

/** Each number of streams with each length of prompts. */
function plansOf({ streams, shortPrompt, longPrompt, seconds }: SchedulersOptions): MixedPlan[] {
  return streams.flatMap((count) =>
    longPrompt.map((length) => ({
      streams: count,
      shortPrompt,
      longPrompt: length,
      turnsAlone,
      phaseSeconds: seconds,
    })),
  );
}

async function peerSide(model: string | undefined, options: SchedulersOptions): Promise<Side> {
  const format = counterparts[options.weights];
  const ggufFile = path.join(model ?? '', ggufName(format));
  if (model === undefined || !existsSync(ggufFile)) {
    throw new Error(
      `--peer needs MODEL as GGUF too: make both with "tandem bench random-model FOLDER --gguf ${format}"`,
    );
  }
  const prefix = path.join(packageRoot, '.scratch', 'peer');
  const version = await installPeer(prefix, notice);
  notice(`llama.cpp by node-llama-cpp ${version}`);
  const { vocab } = (await readCheckpoint(model)).spec;
  const threads = os.availableParallelism();
  return llamaSide({ prefix, ggufFile, threads, stepTokens, vocab, plan: plansOf(options)[0]! });
}

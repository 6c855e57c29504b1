import { Command, Option } from 'commander';
import { originOf } from '../origin.js';
import { formatRows } from '../print-rows.js';
import { Random } from '../random.js';
import { Rows } from '../rows.js';
import { poissonArrivals } from '../serve/arrivals.js';
import { shorteningNotice, withinContext } from '../serve/context-limit.js';
import { runIdleSockets } from '../serve/idle-sockets-scenario.js';
import { runLargeBody } from '../serve/large-body-scenario.js';
import { type LengthDistribution, parseLengths } from '../serve/lengths.js';
import { closedLoop, failuresOf, openLoop, warmUp } from '../serve/load.js';
import { runLoadStep } from '../serve/load-step-scenario.js';
import { addMixed, defaultLongPrompt, measureMixed, shortPromptOf } from '../serve/mixed-scenario.js';
import { PromptSource } from '../serve/prompt-source.js';
import { measureRequestRate } from '../serve/request-rate.js';
import { readSchemas } from '../serve/schemas.js';
import { ServerProcess } from '../serve/server-process.js';
import { parseSlo, type Slo } from '../serve/slo.js';
import { runStructured } from '../serve/structured-scenario.js';
import { summarize } from '../serve/summary.js';
import { type ServedModel, servedModel, type Target } from '../serve/target.js';
import { type Replay, readReplay, replayOf } from '../serve/trace-replay.js';
import { fileToWrite, httpUrl, parsed, positiveNumber, wholeNumber } from './arguments.js';
import { notice, print } from './output.js';

const scenarios = [
  'load',
  'trace',
  'mixed',
  'load-step',
  'large-body',
  'sockets',
  'structured',
  'requests',
] as const;
type Scenario = (typeof scenarios)[number];

/** Without arrivals a client sends its next request when its last one has ended. */
type Load = Omit<Replay, 'arrivals' | 'sent'> & Partial<Pick<Replay, 'arrivals'>>;

interface ServeOptions {
  url?: string;
  model?: string;
  apiKey?: string;
  scenario: Scenario;
  requests?: number;
  concurrency?: number;
  rate?: number;
  trace?: string;
  timeScale: number;
  lengthScale: number;
  prompt: LengthDistribution;
  output: LengthDistribution;
  slo?: Slo;
  streams: number;
  longPrompt?: number;
  textTokens: number;
  bodySize: number;
  repetitions: number;
  idle: number;
  schemas?: string;
  seconds: number;
  seed: number;
  json?: string;
}

/** Options that mean something in some scenarios only. */
const scenariosOf: Readonly<Partial<Record<keyof ServeOptions, readonly Scenario[]>>> = {
  requests: ['load', 'trace', 'structured'],
  concurrency: ['load', 'requests'],
  rate: ['load', 'trace'],
  trace: ['trace'],
  timeScale: ['trace'],
  lengthScale: ['trace'],
  prompt: ['load'],
  output: ['load'],
  slo: ['load', 'trace'],
  streams: ['mixed', 'load-step', 'large-body', 'sockets', 'structured'],
  longPrompt: ['mixed', 'load-step'],
  textTokens: ['large-body'],
  bodySize: ['large-body'],
  repetitions: ['large-body'],
  idle: ['sockets'],
  schemas: ['structured'],
  seconds: ['mixed', 'load-step', 'large-body', 'sockets', 'requests'],
  seed: ['load', 'trace', 'mixed', 'load-step', 'large-body', 'sockets', 'structured'],
};

export function serveCommand(argv: readonly string[]): Command {
  const lengths = (flag: string, description: string, initial: string) =>
    new Option(flag, description)
      .argParser(parsed(parseLengths))
      .default(parseLengths(initial), `${initial}`);
  return new Command('serve')
    .description('load a server over HTTP; without --url one is started and ended, with the flags after "--"')
    .argument('[flags...]', 'flags of "tandem serve" for the server that is started')
    .addOption(new Option('--url <url>', 'a server that runs').conflicts('model').argParser(httpUrl))
    .option('--model <folder>', 'model of the server that is started; the demo model if absent')
    .option('--api-key <key>', 'sent as a bearer token')
    .addOption(
      new Option(
        '--scenario <name>',
        'load: streaming completions; trace: those of a recorded trace, at its times; mixed: long prompts beside ' +
          'running streams; load-step: chats, then long prompts beside them, and back; large-body: large bodies and ' +
          'long texts beside them; sockets: streams over WebSockets beside others that are idle; structured: answers by ' +
          'schemas, and free ones; requests: completions of one token, as many as go',
      )
        .choices(scenarios)
        .default('load'),
    )
    .option(
      '--requests <n>',
      'load: how many, 64 if absent; trace: only the first so many; structured: how many schemas, 100 if absent',
      wholeNumber(1),
    )
    .option(
      '--concurrency <n>',
      'load: clients that each wait for their answer, 8 if absent; requests: connections, 32 if absent',
      wholeNumber(1),
    )
    .addOption(
      new Option(
        '--rate <n>',
        "load: arrivals a second instead (Poisson), whoever waits; trace: in place of the trace's own pace",
      )
        .argParser(positiveNumber)
        .conflicts(['concurrency', 'timeScale']),
    )
    .option(
      '--trace <file>',
      'trace: a CSV of Azure (TIMESTAMP,ContextTokens,GeneratedTokens), JSON lines of Mooncake, or a CSV of lengths',
    )
    .option('--time-scale <n>', 'trace: a second of it takes so many', positiveNumber, 1)
    .option('--length-scale <n>', 'trace: times its prompts and outputs', positiveNumber, 1)
    .addOption(lengths('--prompt <length>', 'load: tokens of a prompt, as 512, 128-1024 or exp:512', '128'))
    .addOption(lengths('--output <length>', 'load: tokens to generate, likewise', '64'))
    .option(
      '--slo <bounds>',
      'load, trace: count goodput, the requests a second within bounds as ttft=500ms,tbt=100ms (also tpot, e2e)',
      parsed(parseSlo),
    )
    .option(
      '--streams <n>',
      'mixed, load-step, large-body, sockets: running streams; structured: answers at once',
      wholeNumber(1),
      8,
    )
    .option(
      '--long-prompt <n>',
      'mixed, load-step: tokens of a long prompt; three quarters of the context, 2048 at most, if absent',
      wholeNumber(1),
    )
    .option('--text-tokens <n>', 'large-body: tokens of the long text, about', wholeNumber(1), 100_000)
    .option('--body-size <megabytes>', 'large-body: of the large body', positiveNumber, 5)
    .option('--repetitions <n>', 'large-body: how often each is sent', wholeNumber(1), 10)
    .option('--idle <n>', 'sockets: those that are open and ask for nothing', wholeNumber(1), 1000)
    .option(
      '--schemas <folder>',
      'structured: with .json files, each a schema or a list as the JSON Schema Test Suite has them',
    )
    .option(
      '--seconds <n>',
      'mixed, load-step, large-body: of a phase; sockets: of the one with idle sockets; requests: in all',
      positiveNumber,
      15,
    )
    .option('--seed <n>', 'of lengths, prompts and arrivals', wholeNumber(0), 1)
    .option('--json <file>', 'write the rows to a file', fileToWrite)
    .action((flags: string[], options: ServeOptions, command: Command) => {
      checkScenario(command, options.scenario);
      return runServe(argv, flags, options);
    });
}

/** Throws an Error for an option that was given and would do nothing, and for one that is missing. */
function checkScenario(command: Command, scenario: Scenario): void {
  if (scenario === 'trace' && command.getOptionValue('trace') === undefined) {
    throw new Error('--scenario trace needs a file: --trace FILE');
  }
  if (scenario === 'structured' && command.getOptionValue('schemas') === undefined) {
    throw new Error('--scenario structured needs a folder: --schemas FOLDER');
  }
  for (const option of command.options) {
    const name = option.attributeName();
    const meant = scenariosOf[name as keyof ServeOptions];
    if (!meant || meant.includes(scenario) || command.getOptionValueSource(name) === 'default') continue;
    if (command.getOptionValueSource(name) === undefined) continue;
    throw new Error(`${option.long} is for --scenario ${meant.join(' or ')}, not for ${scenario}`);
  }
}

async function runServe(
  argv: readonly string[],
  flags: readonly string[],
  options: ServeOptions,
): Promise<void> {
  const rows = new Rows(originOf(['serve', ...argv]));
  if (options.url !== undefined && flags.length > 0) {
    throw new Error('flags after "--" are for a server that is started; with --url there is none');
  }
  const started = options.url === undefined ? await ServerProcess.start(options.model, flags) : undefined;
  try {
    const target: Target = {
      url: options.url ?? started!.url,
      ...(options.apiKey !== undefined && { apiKey: options.apiKey }),
    };
    const model = await servedModel(target);
    notice(`${options.scenario} on ${model.id} at ${target.url}, context ${model.contextLength}`);
    await runScenario(target, model, options, rows);
  } finally {
    await started?.stop();
  }
  print(formatRows(rows.all));
  if (options.json) rows.write(options.json);
}

async function runScenario(
  target: Target,
  model: ServedModel,
  options: ServeOptions,
  rows: Rows,
): Promise<void> {
  const { streams, seconds } = options;
  if (options.scenario === 'requests') {
    const plan = { connections: options.concurrency ?? 32, seconds };
    return measureRequestRate(target, model, plan, rows);
  }
  const random = new Random(options.seed);
  const prompts = await PromptSource.open(target, random);
  const shortPrompt = shortPromptOf(model);
  switch (options.scenario) {
    case 'mixed': {
      const longPrompt = options.longPrompt ?? defaultLongPrompt(model);
      const plan = { streams, shortPrompt, longPrompt, turnsAlone: 5, phaseSeconds: seconds };
      addMixed(rows, plan, await measureMixed(target, model, prompts, plan));
      return;
    }
    case 'large-body': {
      const { textTokens, repetitions } = options;
      const bodyBytes = options.bodySize * 1e6;
      const plan = { streams, shortPrompt, idleSeconds: seconds, bodyBytes, textTokens, repetitions };
      return runLargeBody(target, model, prompts, plan, rows);
    }
    case 'sockets': {
      const plan = { streams, shortPrompt, idleSockets: options.idle, besideSeconds: seconds };
      return runIdleSockets(target, model, prompts, plan, rows);
    }
    case 'structured': {
      const plan = { schemas: readSchemas(options.schemas!), count: options.requests ?? 100, streams };
      return runStructured(target, model, prompts, plan, rows);
    }
    case 'load-step': {
      const longPrompt = options.longPrompt ?? defaultLongPrompt(model);
      const plan = { streams, shortPrompt, longPrompt, phaseSeconds: seconds };
      return runLoadStep(target, model, prompts, plan, rows);
    }
    case 'trace': {
      const replay = replayOf(readReplay({ ...options, file: options.trace! }, random), model, prompts);
      return runLoad(target, model, prompts, replay, options, rows);
    }
    case 'load': {
      const load = drawLoad(options, model, prompts, random);
      return runLoad(target, model, prompts, load, options, rows);
    }
  }
}

/** Requests of the lengths that are asked for, with arrivals where a rate is. */
function drawLoad(options: ServeOptions, model: ServedModel, prompts: PromptSource, random: Random): Load {
  let shortened = 0;
  const requests = Array.from({ length: options.requests ?? 64 }, () => {
    const outputTokens = options.output(random);
    const lengths = withinContext(model, { outputTokens, promptTokens: options.prompt(random) });
    if (lengths.isShortened) shortened += 1;
    const prompt = prompts.next(lengths.promptTokens);
    return { model: model.id, prompt, maxTokens: lengths.outputTokens };
  });
  const { rate } = options;
  return {
    requests,
    shortened,
    ...(rate !== undefined && { arrivals: poissonArrivals(rate, requests.length, random) }),
  };
}

async function runLoad(
  target: Target,
  model: ServedModel,
  prompts: PromptSource,
  load: Load,
  { concurrency, slo }: ServeOptions,
  rows: Rows,
): Promise<void> {
  const { requests, arrivals, shortened } = load;
  const warning = shorteningNotice(model, shortened, requests.length);
  if (warning !== undefined) notice(warning);
  await warmUp(target, model, prompts);
  const result = arrivals
    ? await openLoop(target, requests, arrivals)
    : await closedLoop(target, requests, concurrency ?? 8);
  for (const failure of failuresOf(result)) notice(failure);
  summarize(rows, result, slo);
}

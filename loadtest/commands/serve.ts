import { Command, InvalidArgumentError, Option } from 'commander';
import { originOf } from '../origin.js';
import { formatRows } from '../print-rows.js';
import { Random } from '../random.js';
import { Rows } from '../rows.js';
import { streamCompletion } from '../serve/completion-stream.js';
import { runLargeBody } from '../serve/large-body-scenario.js';
import { type LengthDistribution, parseLengths } from '../serve/lengths.js';
import { closedLoop, openLoop } from '../serve/load.js';
import { runMixed } from '../serve/mixed-scenario.js';
import { PromptSource } from '../serve/prompt-source.js';
import { measureRequestRate } from '../serve/request-rate.js';
import { ServerProcess } from '../serve/server-process.js';
import { parseSlo, type Slo } from '../serve/slo.js';
import { summarize } from '../serve/summary.js';
import { type ServedModel, servedModel, type Target } from '../serve/target.js';
import { positiveNumber, wholeNumber } from './arguments.js';
import { notice, print } from './output.js';

const scenarios = ['load', 'mixed', 'large-body', 'requests'] as const;
type Scenario = (typeof scenarios)[number];

interface ServeOptions {
  url?: string;
  model?: string;
  apiKey?: string;
  scenario: Scenario;
  requests: number;
  concurrency?: number;
  rate?: number;
  prompt: LengthDistribution;
  output: LengthDistribution;
  slo?: Slo;
  streams: number;
  longPrompt?: number;
  textTokens: number;
  bodySize: number;
  repetitions: number;
  seconds: number;
  seed: number;
  json?: string;
}

/** Options that mean something in some scenarios only. */
const scenariosOf: Readonly<Partial<Record<keyof ServeOptions, readonly Scenario[]>>> = {
  requests: ['load'],
  concurrency: ['load', 'requests'],
  rate: ['load'],
  prompt: ['load'],
  output: ['load'],
  slo: ['load'],
  streams: ['mixed', 'large-body'],
  longPrompt: ['mixed'],
  textTokens: ['large-body'],
  bodySize: ['large-body'],
  repetitions: ['large-body'],
  seconds: ['mixed', 'large-body', 'requests'],
  seed: ['load', 'mixed', 'large-body'],
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
        'load: streaming completions; mixed: long prompts beside running streams; large-body: large bodies and long ' +
          'texts beside them; requests: completions of one token, as many as go',
      )
        .choices(scenarios)
        .default('load'),
    )
    .option('--requests <n>', 'load: how many', wholeNumber(1), 64)
    .option(
      '--concurrency <n>',
      'load: clients that each wait for their answer, 8 if absent; requests: connections, 32 if absent',
      wholeNumber(1),
    )
    .addOption(
      new Option('--rate <n>', 'load: arrivals a second instead (Poisson), whoever waits')
        .argParser(positiveNumber)
        .conflicts('concurrency'),
    )
    .addOption(lengths('--prompt <length>', 'load: tokens of a prompt, as 512, 128-1024 or exp:512', '128'))
    .addOption(lengths('--output <length>', 'load: tokens to generate, likewise', '64'))
    .option(
      '--slo <bounds>',
      'load: count goodput, the requests a second within bounds as ttft=500ms,tbt=100ms (also tpot, e2e)',
      parsed(parseSlo),
    )
    .option('--streams <n>', 'mixed, large-body: running streams', wholeNumber(1), 8)
    .option(
      '--long-prompt <n>',
      'mixed: tokens of a long prompt; three quarters of the context, 2048 at most, if absent',
      wholeNumber(1),
    )
    .option('--text-tokens <n>', 'large-body: tokens of the long text, about', wholeNumber(1), 100_000)
    .option('--body-size <megabytes>', 'large-body: of the large body', positiveNumber, 5)
    .option('--repetitions <n>', 'large-body: how often each is sent', wholeNumber(1), 10)
    .option('--seconds <n>', 'mixed, large-body: of a phase; requests: in all', positiveNumber, 15)
    .option('--seed <n>', 'of lengths, prompts and arrivals', wholeNumber(0), 1)
    .option('--json <file>', 'write the rows to a file')
    .action((flags: string[], options: ServeOptions, command: Command) => {
      checkScenario(command, options.scenario);
      return runServe(argv, flags, options);
    });
}

/** Throws an Error for an option that was given and would do nothing. */
function checkScenario(command: Command, scenario: Scenario): void {
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
  const shortPrompt = Math.min(32, Math.ceil(model.contextLength / 2));
  switch (options.scenario) {
    case 'mixed': {
      const longPrompt = options.longPrompt ?? Math.min(2048, Math.floor(model.contextLength * 0.75));
      const plan = { streams, shortPrompt, longPrompt, phaseSeconds: seconds };
      return runMixed(target, model, prompts, plan, rows);
    }
    case 'large-body': {
      const { textTokens, repetitions } = options;
      const bodyBytes = options.bodySize * 1e6;
      const plan = { streams, shortPrompt, idleSeconds: seconds, bodyBytes, textTokens, repetitions };
      return runLargeBody(target, model, prompts, plan, rows);
    }
    case 'load':
      return runLoad(target, model, prompts, options, random, rows);
  }
}

async function runLoad(
  target: Target,
  model: ServedModel,
  prompts: PromptSource,
  options: ServeOptions,
  random: Random,
  rows: Rows,
): Promise<void> {
  let shortened = 0;
  const requests = Array.from({ length: options.requests }, () => {
    const output = options.output(random);
    const prompt = options.prompt(random);
    const maxTokens = Math.min(output, model.contextLength - 1);
    const promptTokens = Math.min(prompt, model.contextLength - maxTokens);
    if (maxTokens < output || promptTokens < prompt) shortened += 1;
    return { model: model.id, prompt: prompts.next(promptTokens), maxTokens };
  });
  if (shortened > 0) {
    notice(
      `${shortened} of ${requests.length} requests are shortened to the context of ${model.contextLength} tokens`,
    );
  }
  // Compiles what runs; not counted. A failure shows in those that count.
  await streamCompletion(target, { model: model.id, prompt: prompts.next(16), maxTokens: 8 });
  const result =
    options.rate === undefined
      ? await closedLoop(target, requests, options.concurrency ?? 8)
      : await openLoop(target, requests, options.rate, random);
  const failures = new Map<string, number>();
  for (const { error } of result.traces) {
    if (error !== undefined) failures.set(error, (failures.get(error) ?? 0) + 1);
  }
  for (const [failure, count] of failures) notice(`${count} failed: ${failure}`);
  summarize(rows, result, options.slo);
}

function httpUrl(text: string): string {
  if (!URL.canParse(text) || !/^https?:$/.test(new URL(text).protocol)) {
    throw new InvalidArgumentError('Expected a URL as http://127.0.0.1:8000.');
  }
  return text;
}

/** A parser that throws Errors, as commander wants it. */
function parsed<T>(parse: (text: string) => T): (text: string) => T {
  return (text) => {
    try {
      return parse(text);
    } catch (error) {
      throw new InvalidArgumentError((error as Error).message);
    }
  };
}

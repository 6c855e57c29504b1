import { Command, InvalidArgumentError, Option } from 'commander';
import { originOf } from '../origin.js';
import { formatRows } from '../print-rows.js';
import { Random } from '../random.js';
import { Rows } from '../rows.js';
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

interface ServeOptions {
  url?: string;
  model?: string;
  apiKey?: string;
  scenario: (typeof scenarios)[number];
  requests: number;
  concurrency: number;
  rate?: number;
  prompt: LengthDistribution;
  output: LengthDistribution;
  slo?: Slo;
  streams: number;
  longPrompt?: number;
  seconds: number;
  seed: number;
  json?: string;
}

export function serveCommand(argv: readonly string[]): Command {
  return new Command('serve')
    .description('load a server over HTTP; without --url one is started and ended, with the flags after "--"')
    .argument('[flags...]', 'flags of "tandem serve" for the server that is started')
    .addOption(new Option('--url <url>', 'a server that runs').conflicts('model'))
    .option('--model <folder>', 'model of the server that is started; the demo model if absent')
    .option('--api-key <key>', 'sent as a bearer token')
    .addOption(
      new Option('--scenario <name>', 'what is sent')
        .choices(scenarios)
        .default(
          'load',
          'streaming completions; mixed: long prompts beside running streams; ' +
            'large-body: large bodies beside them; requests: completions of one token, as many as go',
        ),
    )
    .option('--requests <n>', 'load: how many', wholeNumber(1), 64)
    .option(
      '--concurrency <n>',
      'load: clients that each wait for their answer; requests: connections',
      wholeNumber(1),
    )
    .option('--rate <n>', 'load: arrivals a second instead (Poisson), whoever waits', positiveNumber)
    .option(
      '--prompt <length>',
      'load: tokens, as 512, 128-1024 or exp:512',
      parsed(parseLengths),
      parseLengths('128'),
    )
    .option('--output <length>', 'load: tokens to generate', parsed(parseLengths), parseLengths('64'))
    .option(
      '--slo <bounds>',
      'load: count goodput, as ttft=500ms,tbt=100ms (also tpot, e2e)',
      parsed(parseSlo),
    )
    .option('--streams <n>', 'mixed, large-body: running streams', wholeNumber(1), 8)
    .option(
      '--long-prompt <n>',
      'mixed: tokens; three quarters of the context, 2048 at most, if absent',
      wholeNumber(1),
    )
    .option('--seconds <n>', 'mixed, large-body: of a phase; requests: in all', positiveNumber, 15)
    .option('--seed <n>', 'of lengths, prompts and arrivals', wholeNumber(0), 1)
    .option('--json <file>', 'write the rows to a file')
    .action((flags: string[], options: ServeOptions) => runServe(argv, flags, options));
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
  const random = new Random(options.seed);
  const shortPrompt = 32;
  switch (options.scenario) {
    case 'requests':
      return measureRequestRate(target, model, { connections: options.concurrency ?? 32, seconds }, rows);
    case 'mixed': {
      const longPrompt = options.longPrompt ?? Math.min(2048, Math.floor(model.contextLength * 0.75));
      const prompts = await PromptSource.open(target, random);
      return runMixed(
        target,
        model,
        prompts,
        { streams, shortPrompt, longPrompt, phaseSeconds: seconds },
        rows,
      );
    }
    case 'large-body': {
      const prompts = await PromptSource.open(target, random);
      const plan = {
        streams,
        shortPrompt,
        idleSeconds: seconds,
        bodyBytes: 5e6,
        promptTokens: 100_000,
        repetitions: 10,
      };
      return runLargeBody(target, model, prompts, plan, rows);
    }
    case 'load':
      return runLoad(target, model, options, random, rows);
  }
}

async function runLoad(
  target: Target,
  model: ServedModel,
  options: ServeOptions,
  random: Random,
  rows: Rows,
): Promise<void> {
  const prompts = await PromptSource.open(target, random);
  const requests = Array.from({ length: options.requests }, () => {
    const maxTokens = Math.min(options.output(random), model.contextLength - 1);
    const promptTokens = Math.min(options.prompt(random), model.contextLength - maxTokens);
    return { model: model.id, prompt: prompts.next(promptTokens), maxTokens };
  });
  const result =
    options.rate === undefined
      ? await closedLoop(target, requests, options.concurrency ?? 8)
      : await openLoop(target, requests, options.rate, random);
  const failures = new Set(result.traces.flatMap(({ error }) => error ?? []));
  for (const failure of failures) notice(`failed: ${failure}`);
  summarize(rows, result, options.slo);
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

import { writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Command, Option } from 'commander';
import { originOf } from '../origin.js';
import { formatRows } from '../print-rows.js';
import { Random } from '../random.js';
import { Rows } from '../rows.js';
import { PromptSource } from '../serve/prompt-source.js';
import { readMetrics } from '../serve/read-metrics.js';
import { ServerProcess } from '../serve/server-process.js';
import { servedModel, type Target } from '../serve/target.js';
import { addSoak, sampleRow } from '../soak/figures.js';
import { runClient } from '../soak/mixed-load.js';
import { renderSoak } from '../soak/report.js';
import { type Sample, Stretch } from '../soak/samples.js';
import { fileToWrite, httpUrl, positiveNumber, wholeNumber } from './arguments.js';
import { notice, print } from './output.js';

interface SoakOptions {
  url?: string;
  model?: string;
  apiKey?: string;
  minutes: number;
  clients: number;
  samples: number;
  seed: number;
  json?: string;
  html?: string;
}

/** Failures that are told of one by one. */
const toldFailures = 10;
/** A client that leaves is noticed a moment later. */
const settleMs = 10_000;

export function soakCommand(argv: readonly string[]): Command {
  return new Command('soak')
    .description(
      'load a server with a bit of everything for long, and watch its memory, files and latency; fails if a request does',
    )
    .argument('[flags...]', 'behind "--": flags of "tandem serve" for the server that is started')
    .addOption(new Option('--url <url>', 'a server that runs').conflicts('model').argParser(httpUrl))
    .option('--model <folder>', 'model of the server that is started; the demo model if absent')
    .option('--api-key <key>', 'sent as a bearer token')
    .option('--minutes <n>', 'how long', positiveNumber, 30)
    .option('--clients <n>', 'clients at once', wholeNumber(1), 8)
    .option('--samples <n>', 'stretches of the time, each a point of the plot', wholeNumber(3), 60)
    .option('--seed <n>', 'of what is sent', wholeNumber(0), 1)
    .option('--json <file>', 'write the rows to a file', fileToWrite)
    .option('--html <file>', 'write plots of memory and latency to a file', fileToWrite)
    .action((flags: string[], options: SoakOptions) => runSoak(argv, flags, options));
}

async function runSoak(
  argv: readonly string[],
  flags: readonly string[],
  options: SoakOptions,
): Promise<void> {
  const origin = originOf(['soak', ...argv]);
  const started = options.url === undefined ? await ServerProcess.start(options.model, flags) : undefined;
  const failures: string[] = [];
  let samples: Sample[];
  let left: string[];
  try {
    const target: Target = {
      url: options.url ?? started!.url,
      ...(options.apiKey !== undefined && { apiKey: options.apiKey }),
    };
    samples = await load(target, options, failures);
    left = await leftOvers(target);
  } finally {
    await started?.stop();
  }
  const rows = new Rows(origin);
  addSoak(rows, samples, failures.length);
  print(formatRows(rows.all.filter(({ name }) => !sampleRow.test(name))));
  if (options.json) rows.write(options.json);
  if (options.html) writeFileSync(options.html, renderSoak(rows.all, origin));
  if (failures.length > 0) throw new Error(`${failures.length} requests failed, the first: ${failures[0]}`);
  if (left.length > 0) throw new Error(`left behind when all was over: ${left.join(', ')}`);
}

async function load(target: Target, options: SoakOptions, failures: string[]): Promise<Sample[]> {
  const { minutes, clients, seed } = options;
  const model = await servedModel(target);
  const random = new Random(seed);
  const prompts = await PromptSource.open(target, random);
  notice(`soak of ${model.id} at ${target.url}: ${clients} clients for ${minutes} minutes`);
  const begin = performance.now();
  const totalMs = minutes * 60_000;
  let stretch = new Stretch();
  const running = Promise.all(
    Array.from({ length: clients }, (_, client) =>
      runClient(
        {
          target,
          model,
          prompts,
          random: new Random(seed * 1000 + client),
          onStream: (trace) => stretch.addStream(trace),
          onRequest: (failure) => {
            stretch.addRequest();
            if (failure === undefined) return;
            failures.push(failure);
            if (failures.length <= toldFailures) notice(failure);
          },
        },
        () => performance.now() - begin >= totalMs,
      ),
    ),
  );
  const samples: Sample[] = [];
  for (let i = 1; i <= options.samples; i++) {
    const untilMs = (totalMs * i) / options.samples - (performance.now() - begin);
    await sleep(Math.max(0, untilMs));
    const ended = stretch;
    stretch = new Stretch();
    samples.push(await ended.sample(target, (performance.now() - begin) / 60_000));
  }
  await running;
  return samples;
}

/** What should be nothing once nobody asks for anything, and is not soon after. */
async function leftOvers(target: Target): Promise<string[]> {
  const names = ['active_requests', 'num_requests_waiting', 'slots_open', 'websockets', 'kv_swapped_bytes'];
  const until = performance.now() + settleMs;
  for (;;) {
    const metrics = await readMetrics(target);
    const left = names.flatMap((name) => {
      const value = metrics.get(`tandem:${name}`) ?? Number.NaN;
      return value === 0 ? [] : `${name} ${value}`;
    });
    if (left.length === 0 || performance.now() > until) return left;
    await sleep(100);
  }
}

import path from 'node:path';
import { Command } from 'commander';
import { type EngineSettings, Settings } from '../../config/schema.js';
import { openChatTemplate, openEngine, openTokenizer } from '../../engine/index.js';
import { originOf } from '../origin.js';
import { formatRows } from '../print-rows.js';
import { Rows } from '../rows.js';
import { measureSession, type SessionFigures } from '../sessions/measure-session.js';
import { readable } from '../table.js';
import { fileToWrite, wholeNumber, wholeNumbers } from './arguments.js';
import { demoModel, deviceOption } from './bench-choices.js';
import { notice, print } from './output.js';

interface SessionsOptions {
  tokens: number;
  turn: number;
  distances: number[];
  seed: number;
  sinkTokens?: number;
  recentTokens?: number;
  midTokens?: number;
  farTokens?: number;
  topPages?: number;
  device: EngineSettings['device'];
  cores?: number;
  json?: string;
}

export function sessionsCommand(argv: readonly string[]): Command {
  return new Command('sessions')
    .description(
      'measure one endless session under --kv pack: memory, time of a step, and what it remembers from how far',
    )
    .argument('[model]', 'model folder with a chat template; the demo model if absent')
    .option('--tokens <n>', 'of the session', wholeNumber(1), 1_000_000)
    .option('--turn <n>', 'tokens of text before each question', wholeNumber(64), 1024)
    .option(
      '--distances <tokens>',
      'how far back the facts stand that are asked for',
      wholeNumbers,
      [256, 1024, 2048, 4096, 8192, 14_336, 20_480],
    )
    .option('--seed <n>', 'of the text', wholeNumber(0), 1)
    .option('--sink-tokens <n>', 'as --pack-sink-tokens of "tandem serve"', wholeNumber(1))
    .option('--recent-tokens <n>', 'as --pack-recent-tokens', wholeNumber(1))
    .option('--mid-tokens <n>', 'as --pack-mid-tokens', wholeNumber(1))
    .option('--far-tokens <n>', 'as --pack-far-tokens', wholeNumber(0))
    .option('--top-pages <n>', 'as --pack-top-pages', wholeNumber(1))
    .addOption(deviceOption())
    .option('--cores <n>', 'cores to compute on; all if absent', wholeNumber(1))
    .option('--json <file>', 'write the rows to a file', fileToWrite)
    .action((model: string | undefined, options: SessionsOptions) => runSessions(argv, model, options));
}

async function runSessions(
  argv: readonly string[],
  model: string | undefined,
  options: SessionsOptions,
): Promise<void> {
  const folder = model === undefined ? demoModel : path.resolve(model);
  const rows = new Rows(originOf(['sessions', ...argv]));
  const template = await openChatTemplate(folder);
  if (!template) throw new RangeError(`${folder} has no chat template, so there are no turns to take`);
  const tokenizer = await openTokenizer(folder);
  const engine = await openEngine(
    Settings.parse({
      model: { path: folder },
      engine: {
        kv: 'pack',
        maxSequences: 1,
        // What is kept for others would count as the session's.
        prefixCache: false,
        packSinkTokens: options.sinkTokens,
        packRecentTokens: options.recentTokens,
        packMidTokens: options.midTokens,
        packFarTokens: options.farTokens,
        packTopPages: options.topPages,
        device: options.device,
        cores: options.cores,
      },
    }),
  );
  try {
    const plan = {
      tokens: options.tokens,
      turnTokens: options.turn,
      distances: options.distances,
      seed: options.seed,
    };
    const figures = await measureSession(engine, { tokenizer, template }, plan, (stretch) => {
      const held = readable(stretch.heldBytes / 2 ** 20);
      notice(`${stretch.end} tokens: ${readable(1000 * stretch.stepSeconds)} ms a step, ${held} MiB of KV`);
    });
    addRows(rows, figures);
  } finally {
    await engine.close();
  }
  print(`\n${formatRows(rows.all)}`);
  if (options.json) rows.write(options.json);
}

/** The stretch at whose end the partitions are full for the first time is the baseline of those behind it. */
function addRows(rows: Rows, { stretches, byDistance, sink }: SessionFigures): void {
  const most = Math.max(...stretches.map(({ heldBytes }) => heldBytes));
  const full = stretches.find(({ heldBytes }) => heldBytes > 0.95 * most)!;
  for (const stretch of stretches) {
    const until = `up to ${stretch.end} tokens`;
    const base = (of: (one: typeof full) => number) => (stretch.end > full.end ? of(full) : null);
    rows.add(
      `KV held, ${until}`,
      stretch.heldBytes / 2 ** 20,
      'MiB',
      base((one) => one.heldBytes / 2 ** 20),
    );
    rows.add(
      `decode step, ${until}`,
      1000 * stretch.stepSeconds,
      'ms',
      base((one) => 1000 * one.stepSeconds),
    );
    rows.add(
      `reading, ${until}`,
      stretch.readTokensPerSecond,
      'tok/s',
      base((one) => one.readTokensPerSecond),
    );
    rows.add(
      `memory of the process, ${until}`,
      stretch.residentBytes / 2 ** 20,
      'MiB',
      base((one) => one.residentBytes / 2 ** 20),
    );
  }
  for (const [distance, { right, asked }] of byDistance) {
    if (asked > 0)
      rows.add(`right answers, ${asked} facts ${distance} tokens back`, (100 * right) / asked, '%');
  }
  rows.add(`right answers, the first fact, asked ${sink.asked} times`, (100 * sink.right) / sink.asked, '%');
}

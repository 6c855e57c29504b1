import { Command, Option } from 'commander';
import { cacheContenders } from '../concurrency/contenders.js';
import { concurrencyFigures, concurrencyRows } from '../concurrency/figures.js';
import { watchRunning } from '../concurrency/running-watch.js';
import { TextPrompts } from '../concurrency/text-prompts.js';
import { originOf } from '../origin.js';
import { formatRows } from '../print-rows.js';
import { demoText } from '../quality/held-out-text.js';
import { Random } from '../random.js';
import { Rows } from '../rows.js';
import type { Contender } from '../schedulers/contenders.js';
import { addFigures, type Figures, medians } from '../schedulers/figures.js';
import { inTurns } from '../schedulers/in-turns.js';
import { type Ask, serverSide } from '../schedulers/server-side.js';
import { shorteningNotice, withinContext } from '../serve/context-limit.js';
import { type LengthDistribution, parseLengths } from '../serve/lengths.js';
import { closedLoop, warmUp } from '../serve/load.js';
import { readable } from '../table.js';
import { fileToWrite, parsed, wholeNumber } from './arguments.js';
import { notice, print } from './output.js';

interface ConcurrencyOptions {
  kv: Contender[];
  kvMemory: string;
  clients: number;
  requests: number;
  prompt: LengthDistribution;
  output: LengthDistribution;
  text?: string;
  repetitions: number;
  seed: number;
  json?: string;
}

export function concurrencyCommand(argv: readonly string[]): Command {
  const lengths = (flag: string, description: string, initial: string) =>
    new Option(flag, description)
      .argParser(parsed(parseLengths))
      .default(parseLengths(initial), `${initial}`);
  return new Command('concurrency')
    .description('how many sequences run at once in the same KV memory: a server for each --kv, in turns')
    .argument('[MODEL]', 'model folder; the demo model if absent')
    .argument('[flags...]', 'behind "--": flags of "tandem serve" for every server')
    .addOption(
      new Option('--kv <names>', 'classes of "tandem serve --kv", zip-TAU, or exact-PRESSURE, by commas')
        .argParser(parsed((text: string) => cacheContenders(text.split(','))))
        .default(cacheContenders(['exact', 'int8', 'int4', 'zip']), 'exact,int8,int4,zip'),
    )
    .option('--kv-memory <bytes>', 'of every server, as 256MiB', '256MiB')
    .option('--clients <n>', 'each sends its next request when its last one has ended', wholeNumber(1), 96)
    .option('--requests <n>', 'in all', wholeNumber(1), 192)
    .addOption(lengths('--prompt <length>', 'tokens of a prompt, as 512, 128-1024 or exp:512', '1536'))
    .addOption(lengths('--output <length>', 'tokens to generate, likewise', '512'))
    .option('--text <file>', "that prompts are stretches of; the demo model's held-out text if absent")
    .option('--repetitions <n>', 'turns of each', wholeNumber(1), 1)
    .option('--seed <n>', 'of lengths and prompts', wholeNumber(0), 1)
    .option('--json <file>', 'write the rows to a file', fileToWrite)
    .action(async (first: string | undefined, rest: string[], options: ConcurrencyOptions) => {
      // Without MODEL, what stands behind "--" comes first.
      const isFlag = first?.startsWith('-') ?? false;
      await runConcurrency(argv, isFlag ? undefined : first, isFlag ? [first!, ...rest] : rest, options);
    });
}

async function runConcurrency(
  argv: readonly string[],
  model: string | undefined,
  flags: readonly string[],
  options: ConcurrencyOptions,
): Promise<void> {
  const { kv, kvMemory, clients, repetitions, seed } = options;
  const origin = originOf(['concurrency', ...argv]);
  const reference = kv.find(({ isReference }) => isReference);
  const server = {
    model,
    flags: ['--kv-memory', kvMemory, '--max-sequences', String(clients), ...flags],
    seed,
    onFacts: (facts: string) => notice(`  ${facts}`),
  };
  const sides = kv.map((contender) => serverSide(contender, server, askLoad(options)));
  let rows = new Rows(origin);
  const onTurn = (side: string, repetition: number, figures: Figures) => {
    const values = concurrencyRows.map(({ figure, title }) => `${title} ${readable(figures[figure]!)}`);
    notice(`${side} #${repetition}: ${values.join('; ')}`);
  };
  // After each turn, so that a long run that is cut short has not been for nothing.
  await inTurns(sides, repetitions, onTurn, (turns) => {
    rows = new Rows(origin);
    const found = new Map(Array.from(turns, ([side, list]) => [side, medians(list)]));
    const base = reference && found.get(reference.name);
    for (const [side, figures] of found) {
      addFigures(rows, side, concurrencyRows, figures, side === reference?.name ? undefined : base);
    }
    if (options.json) rows.write(options.json);
  });
  print(formatRows(rows.all));
}

/** As many requests at once as there are clients, on a server that has not room for all of them. */
function askLoad({ clients, requests, prompt, output, text, seed }: ConcurrencyOptions): Ask {
  return async ({ target, model, prompts }) => {
    // The same for every server.
    const random = new Random(seed);
    const stretches = await TextPrompts.open(target, text ?? demoText, new Random(seed));
    let shortened = 0;
    const drawn = Array.from({ length: requests }, () => {
      const outputTokens = output(random);
      const lengths = withinContext(model, { outputTokens, promptTokens: prompt(random) });
      if (lengths.isShortened) shortened += 1;
      return {
        model: model.id,
        prompt: stretches.next(lengths.promptTokens),
        maxTokens: lengths.outputTokens,
      };
    });
    const warning = shorteningNotice(model, shortened, requests);
    if (warning !== undefined) notice(warning);
    await warmUp(target, model, prompts);
    const { result, looks } = await watchRunning(target, () => closedLoop(target, drawn, clients));
    return concurrencyFigures(result, looks);
  };
}

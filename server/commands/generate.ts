import { text as readAll } from 'node:stream/consumers';
import {
  type ChatTemplate,
  type Engine,
  openChatTemplate,
  openEngine,
  openTokenizer,
  readCheckpoint,
  readGenerationDefaults,
  type Tokenizer,
} from '../../engine/index.js';
import { Answerer } from './answer.js';
import { chat } from './chat.js';
import { CommandError, configOf, modelCommand, runCommand } from './command.js';
import { LoadProgress } from './progress.js';
import { addSamplingFlags, integer, samplingOf } from './sampling-flags.js';

interface GenerateOptions {
  readonly prompt?: string;
  readonly chat?: boolean;
  readonly raw?: boolean;
  readonly system?: string;
  readonly maxTokens?: number;
  readonly stop?: string[];
}

/** `tandem generate`: one completion, or a chat, streamed to the terminal. Resolves to the exit code. */
export function run(argv: readonly string[]): Promise<number> {
  const command = modelCommand('generate', 'One completion in the terminal, streamed.', ['model', 'engine']);
  command.optionsGroup('Prompt:');
  command.option('-p, --prompt <text>', 'what to answer; "-" or no prompt: read from standard input');
  command.option('--chat', 'talk: one line a turn, /clear forgets, /exit or Ctrl-D ends');
  command.option('--raw', "continue the text as it is, without the model's chat template");
  command.option('--system <text>', 'system message before the prompt');
  command.option(
    '--max-tokens <n>',
    "longest answer (default: the model's, else what the context leaves)",
    integer(1),
  );
  command.option('--stop <text>', 'end the answer before this text; may be given several times', collect);
  addSamplingFlags(command);
  return runCommand(command, argv, async () => {
    const options = command.opts<GenerateOptions>();
    if (options.chat && options.prompt !== undefined)
      throw new CommandError('--chat and --prompt exclude each other');
    if (options.chat && options.raw)
      throw new CommandError('--chat needs the chat template that --raw turns off');
    const prompt = options.chat ? undefined : await readPrompt(options.prompt);

    const { settings } = configOf(command);
    const folder = settings.model.path;
    await readCheckpoint(folder);
    const [tokenizer, template, defaults] = await Promise.all([
      openTokenizer(folder),
      openChatTemplate(folder, settings.model.chatTemplate),
      readGenerationDefaults(folder),
    ]);
    if (options.chat && !template)
      throw new CommandError(`${folder} has no chat template: name one with --chat-template`);
    if (options.system !== undefined && (options.raw || !template)) {
      throw new CommandError('--system needs a chat template');
    }

    const isRaw = options.raw === true || !template;
    const engine = await open(settings);
    try {
      const answerer = new Answerer(engine, tokenizer, {
        sampling: samplingOf(command, defaults),
        maxTokens: options.maxTokens ?? defaults.maxNewTokens,
        stop: options.stop ?? [],
        continuesPrompt: isRaw,
      });
      if (options.chat) return await chat(answerer, tokenizer, template!, options.system);
      return await complete(answerer, encode(prompt!, options.system, tokenizer, isRaw ? null : template));
    } finally {
      await engine.close();
    }
  });
}

async function open(settings: Parameters<typeof openEngine>[0]): Promise<Engine> {
  const progress = new LoadProgress('loading', process.stderr);
  try {
    return await openEngine(settings, { onProgress: (done, total) => progress.update(done, total) });
  } finally {
    progress.end();
  }
}

async function readPrompt(given: string | undefined): Promise<string> {
  if (given !== undefined && given !== '-') return given;
  if (given === undefined && process.stdin.isTTY) {
    throw new CommandError('nothing to answer: give -p "…", pipe a text in, or talk with --chat');
  }
  const prompt = (await readAll(process.stdin)).replace(/\r?\n$/, '');
  if (prompt === '') throw new CommandError('standard input is empty: there is nothing to answer');
  return prompt;
}

function encode(
  prompt: string,
  given: string | undefined,
  tokenizer: Tokenizer,
  template: ChatTemplate | null,
): Int32Array {
  if (!template) return tokenizer.encode(prompt, { special: true, addBos: true });
  const system = given === undefined ? [] : [{ role: 'system', content: given }];
  const messages = [...system, { role: 'user', content: prompt }];
  // The template writes the bos itself.
  return tokenizer.encode(template.render({ messages, addGenerationPrompt: true }), {
    special: true,
    addBos: false,
  });
}

async function complete(answerer: Answerer, prompt: Int32Array): Promise<number> {
  const stop = new AbortController();
  const interrupt = () => stop.abort();
  process.on('SIGINT', interrupt);
  process.on('SIGTERM', interrupt);
  // The answerer notices a closed pipe; what is still buffered then must not end the process.
  process.stdout.on('error', () => {});
  try {
    const { text, interrupted } = await answerer.answer(prompt, process.stdout, stop.signal);
    if (!interrupted && !text.endsWith('\n')) process.stdout.write('\n');
    return interrupted ? 130 : 0;
  } finally {
    process.off('SIGINT', interrupt);
    process.off('SIGTERM', interrupt);
  }
}

function collect(value: string, previous: string[] | undefined): string[] {
  return [...(previous ?? []), value];
}

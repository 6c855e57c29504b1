import { Command } from 'commander';
import { runProgram } from './run-program.js';

/** Each is loaded where it is asked for: all of them, with the libraries that some need, take a second. */
const commands: Readonly<Record<string, (argv: readonly string[]) => Promise<Command>>> = {
  serve: async (argv) => (await import('./serve.js')).serveCommand(argv),
  schedulers: async (argv) => (await import('./schedulers.js')).schedulersCommand(argv),
  concurrency: async (argv) => (await import('./concurrency.js')).concurrencyCommand(argv),
  engine: async (argv) => (await import('./engine.js')).engineCommand(argv),
  attention: async (argv) => (await import('./attention.js')).attentionCommand(argv),
  prefill: async (argv) => (await import('./prefill.js')).prefillCommand(argv),
  quality: async (argv) => (await import('./quality.js')).qualityCommand(argv),
  sessions: async (argv) => (await import('./sessions.js')).sessionsCommand(argv),
  summaries: async (argv) => (await import('./summaries.js')).summariesCommand(argv),
  peer: async (argv) => (await import('./peer.js')).peerCommand(argv),
  soak: async (argv) => (await import('./soak.js')).soakCommand(argv),
  'random-model': async () => (await import('./random-model.js')).randomModelCommand(),
  render: async () => (await import('./render.js')).renderCommand(),
};

/** `tandem bench ...`; `argv` is what follows. Returns the exit code. */
export async function run(argv: string[]): Promise<number> {
  const [name, ...rest] = argv;
  const program = new Command('tandem bench')
    .description(
      'Measures a running server, its schedulers, the engine alone, its KV caches, prompts and endless sessions, or llama.cpp beside it.',
    )
    .helpCommand(false);
  const isKnown = name !== undefined && Object.hasOwn(commands, name);
  for (const open of isKnown ? [commands[name]!] : Object.values(commands)) {
    program.addCommand(await open(rest));
  }
  return runProgram(program, argv);
}

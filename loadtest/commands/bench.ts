import { Command } from 'commander';
import { attentionCommand } from './attention.js';
import { concurrencyCommand } from './concurrency.js';
import { engineCommand } from './engine.js';
import { peerCommand } from './peer.js';
import { prefillCommand } from './prefill.js';
import { qualityCommand } from './quality.js';
import { randomModelCommand } from './random-model.js';
import { renderCommand } from './render.js';
import { runProgram } from './run-program.js';
import { schedulersCommand } from './schedulers.js';
import { serveCommand } from './serve.js';
import { sessionsCommand } from './sessions.js';
import { soakCommand } from './soak.js';
import { summariesCommand } from './summaries.js';

/** `tandem bench ...`; `argv` is what follows. Returns the exit code. */
export function run(argv: string[]): Promise<number> {
  const rest = argv.slice(1);
  const program = new Command('tandem bench')
    .description(
      'Measures a running server, its schedulers, the engine alone, its KV caches, prompts and endless sessions, or llama.cpp beside it.',
    )
    .helpCommand(false)
    .addCommand(serveCommand(rest))
    .addCommand(schedulersCommand(rest))
    .addCommand(concurrencyCommand(rest))
    .addCommand(engineCommand(rest))
    .addCommand(attentionCommand(rest))
    .addCommand(prefillCommand(rest))
    .addCommand(qualityCommand(rest))
    .addCommand(sessionsCommand(rest))
    .addCommand(summariesCommand(rest))
    .addCommand(peerCommand(rest))
    .addCommand(soakCommand(rest))
    .addCommand(randomModelCommand())
    .addCommand(renderCommand());
  return runProgram(program, argv);
}

import { createInterface } from 'node:readline/promises';
import { type ChatMessage, type ChatTemplate, EngineError, type Tokenizer } from '../../engine/index.js';
import type { Answerer } from './answer.js';

/**
 * Talks until the input ends: one line a turn. Ctrl-C ends the answer that is being written, or the chat when none
 * is. Resolves to the exit code.
 */
export async function chat(
  answerer: Answerer,
  tokenizer: Tokenizer,
  template: ChatTemplate,
  system: string | undefined,
): Promise<number> {
  const { stdin, stdout } = process;
  const terminal = stdin.isTTY === true && stdout.isTTY === true;
  const lines = createInterface({ input: stdin, ...(terminal ? { output: stdout } : {}), terminal });
  const opening: ChatMessage[] = system === undefined ? [] : [{ role: 'system', content: system }];
  let messages = opening;
  let answering: AbortController | undefined;
  const onInterrupt = () => (answering ? answering.abort() : lines.close());
  lines.on('SIGINT', onInterrupt);
  process.on('SIGINT', onInterrupt);
  lines.setPrompt(terminal ? '> ' : '');
  lines.prompt();
  try {
    for await (const line of lines) {
      if (line.trim() === '/exit') break;
      if (line.trim() === '/clear') messages = opening;
      else if (line.trim() !== '') {
        const asked: ChatMessage[] = [...messages, { role: 'user', content: line }];
        answering = new AbortController();
        try {
          const rendered = template.render({ messages: asked, addGenerationPrompt: true });
          const prompt = tokenizer.encode(rendered, { special: true, addBos: false });
          const { text } = await answerer.answer(prompt, stdout, answering.signal);
          messages = [...asked, { role: 'assistant', content: text }];
          stdout.write('\n');
        } catch (error) {
          if (!(error instanceof EngineError)) throw error;
          // The turn is forgotten and the talk goes on: a conversation that grew too long can be cleared.
          process.stderr.write(
            `tandem: ${error.message}${error.code === 'context_length_exceeded' ? ' (/clear forgets)' : ''}\n`,
          );
        } finally {
          answering = undefined;
        }
      }
      lines.prompt();
    }
  } finally {
    process.off('SIGINT', onInterrupt);
    lines.close();
  }
  if (terminal) stdout.write('\n');
  return 0;
}

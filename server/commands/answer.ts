import type { Writable } from 'node:stream';
import type { Engine, SamplingParams, TokenEvent, Tokenizer } from '../../engine/index.js';

export interface AnswerOptions {
  readonly sampling: SamplingParams;
  /** Absent: what the context leaves. */
  readonly maxTokens: number | undefined;
  readonly stop: readonly string[];
  /** Whether answers go on with the text of their prompts. */
  readonly continuesPrompt: boolean;
}

export interface Answer {
  readonly text: string;
  /** By the signal, or because nobody reads the output any more. */
  readonly interrupted: boolean;
}

/** Asks the engine for one answer at a time and writes it out as it comes. */
export class Answerer {
  #count = 0;

  constructor(
    private readonly engine: Engine,
    readonly tokenizer: Tokenizer,
    private readonly options: AnswerOptions,
  ) {}

  /** Rejects with the engine's error. */
  answer(prompt: Int32Array, output: Writable, signal: AbortSignal): Promise<Answer> {
    const { sampling, maxTokens, stop, continuesPrompt } = this.options;
    const id = `generate-${++this.#count}`;
    const { contextLength, spec } = this.engine.info;
    // Under --kv pack the context has no end, and an answer of the trained length is long enough.
    const room = Math.max(1, Math.min(contextLength - prompt.length, spec.contextLength));
    return new Promise((resolve, reject) => {
      let text = '';
      const end = (settle: () => void) => {
        signal.removeEventListener('abort', interrupt);
        output.off('error', interrupt);
        settle();
      };
      const interrupt = () => {
        this.engine.cancel(id);
        end(() => resolve({ text, interrupted: true }));
      };
      const onEvent = (event: TokenEvent) => {
        if (event.type === 'tokens' && event.text !== '') {
          text += event.text;
          output.write(event.text);
        } else if (event.type === 'done') {
          end(() => resolve({ text, interrupted: false }));
        } else if (event.type === 'error') {
          end(() => reject(event.error));
        }
      };
      signal.addEventListener('abort', interrupt);
      // `tandem generate … | head` closes the pipe early.
      output.on('error', interrupt);
      this.engine.submit(
        {
          id,
          prompt,
          n: 1,
          sampling,
          maxTokens: maxTokens ?? room,
          minTokens: 0,
          stop,
          stopTokenIds: [],
          ignoreEos: false,
          logprobs: -1,
          promptLogprobs: false,
          continuesPrompt,
          priority: 0,
        },
        (events) => events.forEach(onEvent),
      );
    });
  }
}

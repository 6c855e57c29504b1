import { randomUUID } from 'node:crypto';
import type { ChatTemplate, Engine, Tokenizer } from '../../engine/index.js';

/** A turn's answer, and what it took. */
export interface Turn {
  readonly text: string;
  /** To the first token, with the prompt read. */
  readonly firstTokenSeconds: number;
  /** Between tokens, on average; NaN for fewer than two. */
  readonly stepSeconds: number;
  readonly cachedTokens: number;
}

const answerTokens = 32;

/** One session at the engine: a conversation, greedy. */
export class SessionClient {
  readonly #name = randomUUID();
  #turns = 0;
  #endedByModel = false;
  /** Of all prompts and answers. */
  tokens = 0;

  constructor(
    private readonly engine: Engine,
    private readonly tokenizer: Tokenizer,
    private readonly template: ChatTemplate,
  ) {}

  /** What the user says next, and the answer. */
  async say(content: string): Promise<Turn> {
    const prompt = this.#promptOf(content);
    const id = `${this.#name}-${this.#turns++}`;
    const begin = performance.now();
    let text = '';
    let count = 0;
    let firstMs = Number.NaN;
    let lastMs = Number.NaN;
    const cachedTokens = await new Promise<number>((resolve, reject) => {
      this.engine.submit(
        { ...greedy, id, prompt, session: this.#name, maxTokens: answerTokens },
        (events) => {
          for (const event of events) {
            if (event.type === 'tokens') {
              text += event.text;
              count += event.tokens.length;
              lastMs = performance.now();
              if (Number.isNaN(firstMs)) firstMs = lastMs;
            } else if (event.type === 'finish') this.#endedByModel = event.reason === 'stop';
            else if (event.type === 'error') reject(event.error);
            else if (event.type === 'done') resolve(event.usage.cachedTokens);
          }
        },
      );
    });
    this.tokens += prompt.length + count;
    return {
      text,
      firstTokenSeconds: (firstMs - begin) / 1000,
      stepSeconds: count < 2 ? Number.NaN : (lastMs - firstMs) / 1000 / (count - 1),
      cachedTokens,
    };
  }

  end(): void {
    this.engine.endSession(this.#name);
  }

  #promptOf(content: string): Int32Array {
    const user = { role: 'user', content };
    const encode = (text: string) => this.tokenizer.encode(text, { special: true, addBos: false });
    if (this.#turns === 0) {
      return encode(this.template.render({ messages: [user], addGenerationPrompt: true }));
    }
    // The end of the answer before, and this turn, as the template writes them.
    const answer = 'An answer.';
    const whole = this.template.render({
      messages: [{ role: 'user', content: '' }, { role: 'assistant', content: answer }, user],
      addGenerationPrompt: true,
    });
    const tokens = encode(whole.slice(whole.indexOf(answer) + answer.length));
    return this.#endedByModel && this.engine.info.eosTokenIds.includes(tokens[0]!) ? tokens.slice(1) : tokens;
  }
}

const greedy = {
  n: 1,
  sampling: {
    temperature: 0,
    topP: 1,
    topK: 0,
    minP: 0,
    presencePenalty: 0,
    frequencyPenalty: 0,
    repetitionPenalty: 1,
    logitBias: new Map<number, number>(),
  },
  minTokens: 0,
  stop: [],
  stopTokenIds: [],
  ignoreEos: false,
  logprobs: -1,
  promptLogprobs: false,
  priority: 0,
};

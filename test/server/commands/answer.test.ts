import { PassThrough, Writable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import {
  type Engine,
  EngineError,
  type GenerateRequest,
  type TokenEvent,
  type Tokenizer,
} from '../../../engine/index.js';
import { Answerer } from '../../../server/commands/answer.js';

/** Holds the one request, so that a test plays the engine's part. */
class OneRequest {
  request: GenerateRequest | undefined;
  cancelled: string[] = [];

  /** The model was trained on 100 tokens. */
  constructor(private readonly contextLength = 100) {}
  emit: (...events: TokenEvent[]) => void = () => {};

  asEngine(): Engine {
    const info = { contextLength: this.contextLength, spec: { contextLength: 100 } } as Engine['info'];
    return {
      info,
      submit: (request: GenerateRequest, onEvents: (events: readonly TokenEvent[]) => void) => {
        this.request = request;
        this.emit = (...events) => onEvents(events);
      },
      cancel: (id: string) => this.cancelled.push(id),
    } as unknown as Engine;
  }
}

const sampling = {
  temperature: 0,
  topP: 1,
  topK: 0,
  minP: 0,
  presencePenalty: 0,
  frequencyPenalty: 0,
  repetitionPenalty: 1,
  logitBias: new Map<number, number>(),
};

function start(output: Writable = new PassThrough(), maxTokens?: number, engine = new OneRequest()) {
  const answerer = new Answerer(engine.asEngine(), {} as Tokenizer, {
    sampling,
    maxTokens,
    stop: ['x'],
    continuesPrompt: false,
  });
  const stop = new AbortController();
  return { engine, stop, answer: answerer.answer(new Int32Array(10), output, stop.signal) };
}

const tokens = (text: string): TokenEvent => ({ type: 'tokens', choice: 0, text, tokens: [1] });
const done: TokenEvent = {
  type: 'done',
  usage: { promptTokens: 10, cachedTokens: 0, completionTokens: 2, queueMs: 0, ttftMs: 1 },
};

describe('an answer in the terminal', () => {
  it('is written as it comes and ends with the request', async () => {
    const output = new PassThrough();
    const { engine, answer } = start(output);
    engine.emit(tokens('Hel'));
    expect(String(output.read())).toBe('Hel');
    engine.emit(tokens('lo'), { type: 'finish', choice: 0, reason: 'stop' }, done);
    expect(await answer).toEqual({ text: 'Hello', interrupted: false });
    expect(engine.cancelled).toEqual([]);
  });

  it('may fill the context where no length is given', () => {
    expect(start().engine.request).toMatchObject({ maxTokens: 90, stop: ['x'], n: 1 });
    expect(start(new PassThrough(), 7).engine.request).toMatchObject({ maxTokens: 7 });
    const endless = new OneRequest(2 ** 24);
    expect(start(new PassThrough(), undefined, endless).engine.request).toMatchObject({ maxTokens: 100 });
  });

  it('is cancelled by the signal and keeps what was written', async () => {
    const { engine, stop, answer } = start();
    engine.emit(tokens('Hel'));
    stop.abort();
    expect(await answer).toEqual({ text: 'Hel', interrupted: true });
    expect(engine.cancelled).toEqual([engine.request!.id]);
  });

  it('is cancelled when nobody reads the output any more', async () => {
    const closed = new Writable({ write: (_chunk, _encoding, callback) => callback(new Error('EPIPE')) });
    const { engine, answer } = start(closed);
    engine.emit(tokens('Hel'));
    expect(await answer).toMatchObject({ interrupted: true });
    expect(engine.cancelled).toHaveLength(1);
  });

  it("rejects with the engine's refusal", async () => {
    const { engine, answer } = start();
    engine.emit({ type: 'error', error: new EngineError('context_length_exceeded', 'too long') });
    await expect(answer).rejects.toThrow('too long');
  });
});

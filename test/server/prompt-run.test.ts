import pino from 'pino';
import { describe, expect, it } from 'vitest';
import { Settings } from '../../config/schema.js';
import { EngineError, type TokenEvent } from '../../engine/index.js';
import { KeyRing } from '../../server/keys/key-ring.js';
import { Metrics } from '../../server/metrics.js';
import { PromptRun } from '../../server/prompt-run.js';
import { type LoadedModel, Service } from '../../server/service.js';
import { requestFor } from '../support/generate.js';

const keys = new KeyRing([], {}, () => 0);
const service = () =>
  new Service(Settings.parse({}), new Metrics(), pino({ level: 'silent' }), keys, undefined);
const partNames = { prompt: 'prompt', maxTokens: 'max_tokens' };
const prompt = { request: requestFor([1], { maxTokens: 1 }), partNames };

describe('a run of prompts', () => {
  it('counts nothing for a client that left before it began', async () => {
    const of = service();
    const run = new PromptRun(of, keys.keys[0]!, 'run', [prompt]);
    run.cancel();
    await run.run(() => {});
    const text = await of.metrics.text(undefined);
    expect(text).toContain('tandem:active_requests 0\n');
    expect(text).not.toContain('tandem:request_success_total{');
    expect(of.recent.ended()).toEqual([]);
  });

  it('counts nothing where the server takes no work', async () => {
    const of = service();
    const run = new PromptRun(of, keys.keys[0]!, 'run', [prompt, prompt]);
    await expect(run.run(() => {})).rejects.toThrow('still being loaded');
    expect(await of.metrics.text(undefined)).toContain('tandem:active_requests 0\n');
  });

  it('charges no prompt of a body that is refused for one of them, but those that are being answered', async () => {
    const of = service();
    const listeners: ((events: readonly TokenEvent[]) => void)[] = [];
    const engine = {
      submit: (_: unknown, onEvents: (events: readonly TokenEvent[]) => void) => listeners.push(onEvents),
      cancel: () => undefined,
    };
    of.setModel({ engine, loadedAt: new Date() } as unknown as LoadedModel);
    const key = new KeyRing([], { tokensPerMinute: 100 }, () => 0).keys[0]!;
    const run = new PromptRun(of, key, 'run', [prompt, prompt, prompt]);
    const ended = run.run(() => {});
    listeners[0]!([{ type: 'tokens', choice: 0, text: 'a', tokens: [1] }]);
    expect(key.usage).toMatchObject({ promptTokens: 3, generatedTokens: 1 });
    listeners[1]!([
      { type: 'error', error: new EngineError('queue_full', 'Too many requests are waiting.') },
    ]);
    await expect(ended).rejects.toThrow('Too many');
    expect(key.usage).toMatchObject({ promptTokens: 1, generatedTokens: 1 });
    expect(key.limits).toMatchObject([{ remaining: 98 }]);
  });
});

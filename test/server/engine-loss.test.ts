import { afterEach, describe, expect, it } from 'vitest';
import { type Engine, EngineError } from '../../engine/index.js';
import { eventually, type TestServer, testServer } from '../support/server.js';

let server: TestServer | undefined;
afterEach(() => server?.close());

/** An engine that is lost when the test says so; its requests run until then. */
function fragile(engine: Engine): { engine: Engine; lose: () => void; closed: () => boolean } {
  let onLost!: (error: EngineError) => void;
  const lost = new Promise<EngineError>((resolve) => {
    onLost = resolve;
  });
  const loss = new EngineError('device_unavailable', 'The device was lost (a test).', {
    retryAfterSeconds: 9,
  });
  const listeners = new Set<Parameters<Engine['submit']>[1]>();
  let isLost = false;
  let isClosed = false;
  const wrapped: Engine = {
    info: engine.info,
    lost,
    submit: (_, onEvents) => {
      if (isLost) queueMicrotask(() => onEvents([{ type: 'error', error: loss }]));
      else listeners.add(onEvents);
    },
    cancel: () => {},
    pause: () => {},
    resume: () => {},
    stats: () => engine.stats(),
    explain: () => engine.explain(),
    setPolicy: (change) => engine.setPolicy(change),
    drain: (graceMs) => engine.drain(graceMs),
    endSession: () => {},
    close: async () => {
      isClosed = true;
    },
  };
  const lose = (): void => {
    isLost = true;
    for (const onEvents of listeners) onEvents([{ type: 'error', error: loss }]);
    onLost(loss);
  };
  return { engine: wrapped, lose, closed: () => isClosed };
}

const body = { model: 'demo', prompt: 'Hello', max_tokens: 4 };

describe('a server whose engine is lost', () => {
  it('answers 503 with when to come again, and serves once the engine is opened anew', async () => {
    const first = await testServer();
    server = first;
    const real = first.engine;
    const lost = fragile(real);
    let reopen!: (engine: Engine) => void;
    const fresh = new Promise<Engine>((resolve) => {
      reopen = resolve;
    });
    await first.serve(lost.engine, () => fresh);
    const running = first.post('/v1/completions', body);
    await eventually(async () => (await first.metric('active_requests')) === 1);
    lost.lose();

    const failed = await running;
    expect(failed.status).toBe(503);
    expect(failed.headers.get('retry-after')).toBe('9');
    expect(((await failed.json()) as { error: { code: string } }).error.code).toBe('device_unavailable');
    const refused = await first.post('/v1/completions', body);
    expect(refused.status).toBe(503);
    expect(refused.headers.get('retry-after')).toBe('9');
    expect(((await refused.json()) as { error: { message: string } }).error.message).toContain('opened anew');
    expect((await fetch(`${first.url}/ready`)).status).toBe(503);
    await eventually(async () => lost.closed());

    const again = fragile(real);
    reopen(real);
    await eventually(async () => (await fetch(`${first.url}/ready`)).ok);
    expect((await first.post('/v1/completions', body)).status).toBe(200);
    expect(await first.metric('engine_restarts_total')).toBe(1);
    again.lose();
  });

  it('gives up on one that is lost again soon after', async () => {
    const first = await testServer();
    server = first;
    const once = fragile(first.engine);
    const twice = fragile(first.engine);
    const reopened: Engine[] = [twice.engine];
    await first.serve(once.engine, async () => reopened.shift()!);
    once.lose();
    await eventually(async () => (await first.metric('engine_restarts_total')) === 1);
    twice.lose();
    await eventually(async () => {
      const answer = await first.post('/v1/completions', body);
      return (await answer.text()).includes('must be restarted');
    });
    expect(reopened).toEqual([]);
  });
});

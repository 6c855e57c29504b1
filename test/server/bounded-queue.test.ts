import { once } from 'node:events';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { WebSocket } from 'ws';
import { GrammarCompiler } from '../../server/grammar/grammar-compiler.js';
import { GrammarThread } from '../../server/grammar/grammar-thread.js';
import { ImageReader } from '../../server/images/image-reader.js';
import { WorkerCalls } from '../../server/worker-calls.js';
import { Folder } from '../scripts/support.js';
import { type TestServer, testServer } from '../support/server.js';
import { makeVisionModel } from '../support/vision-model.js';
import { dataUrl, png } from './images/test-image.js';

let folder: Folder;
let server: TestServer;
beforeAll(async () => {
  folder = new Folder();
  makeVisionModel(folder.at('model'));
  server = await testServer({ model: { path: folder.at('model') }, engine: { maxQueue: 1 } });
});
afterAll(async () => {
  await server.close();
  folder.close();
});
afterEach(() => {
  vi.restoreAllMocks();
});

const small = { messages: [{ role: 'user', content: 'Hello' }], max_tokens: 1 };
const large = { ...small, user: 'x'.repeat(32 * 1024) };
const image = { type: 'image_url', image_url: { url: dataUrl(png(8, 8, () => [200, 20, 20])) } };
const withImage = { ...small, messages: [{ role: 'user', content: [image] }] };
/** Too much for the thread of small ones, and another one each time. */
const withGrammar = (index: number) => ({
  ...small,
  grammar: `root ::= (("a" | "b" | "c"){0,1000} "${index}"){4}`,
});

const chat = (body: object) => server.post('/v1/chat/completions', body);

/** Calls of a method that pass `isHeld` wait, and each `release` lets the next one go on. `asked` resolves when so many came. */
function hold<T extends object>(prototype: T, name: keyof T & string, isHeld = (_self: T): boolean => true) {
  const held: (() => void)[] = [];
  let next = 0;
  const method = prototype[name] as (...args: unknown[]) => Promise<unknown>;
  vi.spyOn(prototype as Record<string, typeof method>, name).mockImplementation(async function (
    this: unknown,
    ...args
  ) {
    if (isHeld(this as T)) await new Promise<void>((resolve) => held.push(resolve));
    return method.apply(this, args);
  });
  return {
    asked: (count: number) => expect.poll(() => held.length).toBe(count),
    release: () => held[next++]!(),
  };
}

const isOfLarge = (thread: GrammarThread): boolean =>
  (thread as unknown as { limits: { effort?: number } }).limits.effort === undefined;

describe('what waits for a thread to prepare it', () => {
  it('is refused with 429 beyond the memory of 16 bodies of the largest kind', async () => {
    const bodyLimit = 40_000;
    const strict = await testServer({ server: { bodyLimit } });
    const thread = hold(WorkerCalls.prototype, 'call');
    const almost = { ...small, user: 'x'.repeat(bodyLimit - 1000) };
    const send = () => strict.post('/v1/chat/completions', almost);
    const held = Array.from({ length: 16 }, send);
    await thread.asked(16);
    const refused = await send();
    expect([refused.status, refused.headers.get('retry-after'), await refused.json()]).toEqual([
      429,
      '5',
      expect.objectContaining({
        error: expect.objectContaining({
          message: 'Too many requests with large bodies are waiting (--body-limit).',
          code: 'queue_full',
        }),
      }),
    ]);
    thread.release();
    expect((await Promise.race(held)).status).toBe(200);
    held.push(send());
    await thread.asked(17);
    for (let i = 0; i < 16; i++) thread.release();
    for (const answer of held) expect((await answer).status).toBe(200);
    await strict.close();
  });

  it('is refused so where images hold too much', async () => {
    const strict = await testServer({
      model: { path: folder.at('model') },
      server: { bodyLimit: 40_000 },
      engine: { maxQueue: 100 },
    });
    const thread = hold(ImageReader.prototype, 'read');
    let noise = 1;
    const file = png(100, 70, () => {
      noise = Math.imul(noise, 1_664_525) + 1_013_904_223;
      return [noise >>> 24, (noise >>> 16) & 255, (noise >>> 8) & 255];
    });
    const shown = { type: 'image_url', image_url: { url: dataUrl(file) } };
    const send = () =>
      strict.post('/v1/chat/completions', { ...small, messages: [{ role: 'user', content: [shown] }] });
    const held: Promise<Response>[] = [];
    while ((held.length + 1) * file.length <= 16 * 40_000) {
      held.push(send());
      await thread.asked(held.length);
    }
    const refused = await send();
    expect([refused.status, await refused.json()]).toMatchObject([
      429,
      { error: { message: 'Too many requests with images are waiting (--body-limit).' } },
    ]);
    for (const _ of held) thread.release();
    for (const answer of held) expect((await answer).status).toBe(200);
    await strict.close();
  });

  it('is refused so where sources of large grammars hold too much', async () => {
    const thread = hold(GrammarThread.prototype, 'compile', isOfLarge);
    const compiler = new GrammarCompiler({ maxQueue: 9, queueBytes: 1000 });
    const left = new AbortController();
    const compile = (index: number) => {
      const text = `${withGrammar(index).grammar}\n# ${'x'.repeat(400)}`;
      return compiler.compile({ type: 'gbnf', text }, left.signal);
    };
    const held = [compile(0), compile(1)];
    await thread.asked(2);
    await expect(compile(2)).rejects.toMatchObject({
      status: 429,
      message: 'Too many requests with large grammars are waiting (--body-limit).',
    });
    left.abort();
    for (const _ of held) thread.release();
    await Promise.allSettled(held);
    await compiler.close();
  });

  it.each([
    ['large bodies', () => hold(WorkerCalls.prototype, 'call'), () => large],
    ['large grammars', () => hold(GrammarThread.prototype, 'compile', isOfLarge), withGrammar],
    ['images', () => hold(ImageReader.prototype, 'read'), () => withImage],
  ])('is refused with 429 beyond --max-queue: %s', async (what, holdThread, body) => {
    const thread = holdThread();
    // The first one does not wait: the thread is at work on it.
    const first = chat(body(0));
    await thread.asked(1);
    const second = chat(body(1));
    await thread.asked(2);

    const refused = await chat(body(2));
    expect([refused.status, refused.headers.get('retry-after'), await refused.json()]).toEqual([
      429,
      '5',
      {
        error: {
          message: `Too many requests with ${what} are waiting (--max-queue).`,
          type: 'rate_limit_error',
          param: null,
          code: 'queue_full',
        },
      },
    ]);
    const socket = new WebSocket(`${server.url.replace('http', 'ws')}/v1/stream`);
    await once(socket, 'open');
    socket.send(JSON.stringify({ type: 'generate', id: 'a', request: body(3) }));
    const [frame] = await once(socket, 'message');
    expect(JSON.parse(String(frame))).toMatchObject({
      type: 'error',
      id: 'a',
      error: { code: 'queue_full' },
    });
    socket.close();
    // Who needs no thread does not notice.
    expect((await chat(small)).status).toBe(200);

    thread.release();
    expect((await first).status).toBe(200);
    const third = chat(body(4));
    await thread.asked(3);
    thread.release();
    expect((await second).status).toBe(200);
    thread.release();
    expect((await third).status).toBe(200);
  });
});

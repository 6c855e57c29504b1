import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Settings } from '../../config/schema.js';
import { Folder } from '../scripts/support.js';
import { dataUrl, png } from '../server/images/test-image.js';
import { oneCore } from '../support/one-core.js';
import { eventually, type TestServer, testServer } from '../support/server.js';
import { makeVisionModel } from '../support/vision-model.js';
import { openMortal, serveUntilDeath } from './mortal-engine.js';
import { expectNothingLeaked } from './support.js';

let folder: Folder;
let server: TestServer | undefined;
beforeAll(() => {
  folder = new Folder();
  makeVisionModel(folder.at('model'));
});
afterEach(async () => {
  await server?.close();
  server = undefined;
});
afterAll(() => folder.close());

const picture = (shade: number) => dataUrl(png(100, 50, (x, y) => [2 * x, 4 * y, shade]));

/** Asks about pictures of these shades. */
const about = (shades: readonly number[], tokens: number) => ({
  messages: [
    {
      role: 'user',
      content: [
        ...shades.map((shade) => ({ type: 'image_url', image_url: { url: picture(shade) } })),
        { type: 'text', text: 'What is it?' },
      ],
    },
  ],
  max_tokens: tokens,
  temperature: 0,
  ignore_eos: true,
});

interface Answer {
  readonly choices: readonly { readonly message: { readonly content: string } }[];
}

describe.each(['thread', 'process'] as const)("the engine's %s is killed among images", (kind) => {
  it('tells who waits for answers and who waits for images, holds none, and reads the same ones anew', async () => {
    const first = await testServer({ model: { path: folder.at('model'), weights: 'bf16' } }, false);
    server = first;
    const settings = Settings.parse({
      model: { path: folder.at('model'), weights: 'bf16' },
      engine: { ...oneCore, kvMemory: '64MiB', device: 'cpu' },
    });
    const mortal = await openMortal(kind, settings);
    const { reopen } = await serveUntilDeath(first, { mortal, next: await openMortal(kind, settings) });
    const ask = (shades: readonly number[], tokens: number, stream = false) =>
      first.post('/v1/chat/completions', { ...about(shades, tokens), stream });
    const before = (await (await ask([1], 6)).json()) as Answer;

    // One writes, and of the others most wait behind each other for the encoder.
    const streaming = await ask([1], 7000, true);
    const waiting = Array.from({ length: 4 }, (_, i) => ask([10 * i + 10, 10 * i + 11, 10 * i + 12], 7000));
    await eventually(async () => (await first.metric('active_requests')) === 5);
    mortal.kill();

    const last = (await streaming.text()).trimEnd().split('\n\n').at(-1)!;
    expect(JSON.parse(last.slice('data: '.length))).toMatchObject({ error: { code: 'engine_failed' } });
    for (const response of await Promise.all(waiting)) {
      expect(response.status).toBe(500);
      expect(await response.json()).toMatchObject({ error: { code: 'engine_failed' } });
    }
    const refused = await ask([1], 6);
    expect(refused.status).toBe(503);
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
    // Nobody holds any.
    expect(await first.metric('image_bytes')).toBeNaN();

    reopen();
    await eventually(async () => (await fetch(`${first.url}/ready`)).ok);
    expect(await first.metric('image_bytes')).toBe(0);
    const after = (await (await ask([1], 6)).json()) as Answer;
    expect(after.choices[0]!.message.content).toBe(before.choices[0]!.message.content);
    expect(await first.metric('images_encoded_total')).toBe(1);
    await expectNothingLeaked(first);
  });
});

import { createHash } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Settings } from '../../../config/schema.js';
import { type Engine, openEngine, type PromptImage } from '../../../engine/index.js';
import { Folder } from '../../scripts/support.js';
import { type Generated, generate, requestFor } from '../../support/generate.js';
import { oneCore } from '../../support/one-core.js';
import { makeVisionModel, tinyVisionShape } from '../../support/vision-model.js';

const { imageSize } = tinyVisionShape.vision!;
/** Of a tile. */
const imageTokens = 16;
const tiles = 2;

let folder: Folder;
let engine: Engine | undefined;
beforeAll(() => {
  folder = new Folder();
  makeVisionModel(folder.at('model'));
});
afterEach(async () => {
  await engine?.close();
  engine = undefined;
});
afterAll(() => folder.close());

/** Sequences of 224 tokens and what is on its way into mid. */
const pack = { packSinkTokens: 32, packRecentTokens: 64, packMidTokens: 128, packTopPages: 2 };

async function open(over: Partial<Settings['engine']> = {}): Promise<Engine> {
  engine = await openEngine(
    Settings.parse({
      model: { path: folder.at('model'), weights: 'bf16' },
      engine: { ...oneCore, ...pack, kv: 'pack', kvMemory: '64MiB', prefixCache: false, ...over },
    }),
  );
  return engine;
}

function imageOf(shade: number, at: number): PromptImage {
  const pixels = Uint8Array.from({ length: tiles * 3 * imageSize ** 2 }, (_, i) => (i * shade) % 251);
  const positions = Int32Array.from({ length: tiles }, (_, tile) => at + tile * imageTokens);
  return { hash: createHash('sha256').update(pixels).digest('hex'), pixels, positions };
}

/** What is said in a turn: words, an image, words. */
function turnOf(turn: number, imageTokenId: number): { tokens: number[]; imageAt: number } {
  const words = (count: number) => Array.from({ length: count }, (_, i) => 300 + ((turn * 31 + i * 7) % 200));
  const before = words(50 + turn);
  const tokens = [...before, ...new Array<number>(tiles * imageTokens).fill(imageTokenId), ...words(40)];
  return { tokens, imageAt: before.length };
}

const answer = { maxTokens: 5, ignoreEos: true, logprobs: 0 };
const said = ({ choices }: Generated) => choices[0]!.logprobs.map(({ token, logprob }) => [token, logprob]);

/** Turns of a session, and each once more as one prompt without a session. */
async function compare(opened: Engine, turns: number): Promise<{ cachedTokens: number }> {
  const { imageTokenId } = opened.info.spec.vision!;
  const prompt: number[] = [];
  const placed: [shade: number, at: number][] = [];
  let cachedTokens = 0;
  for (let turn = 0; turn < turns; turn++) {
    const { tokens, imageAt } = turnOf(turn, imageTokenId);
    placed.push([turn + 3, prompt.length + imageAt]);
    prompt.push(...tokens);
    const own = { session: 'tale', goesOn: turn > 0, images: [imageOf(turn + 3, imageAt)] };
    const inSession = await generate(opened, requestFor(tokens, { ...answer, ...own }));
    const images = () => placed.map(([shade, at]) => imageOf(shade, at));
    const whole = await generate(opened, requestFor(prompt, { ...answer, images: images() }));
    expect(said(inSession)).toEqual(said(whole));
    cachedTokens += inSession.usage.cachedTokens;
    // The first image is long out of sight, or told of by what was read behind it.
    if (turn === 0) {
      const other = [imageOf(99, imageAt)];
      const others = await generate(opened, requestFor(prompt, { ...answer, images: other }));
      expect(said(others)).not.toEqual(said(whole));
    }
    prompt.push(...inSession.choices[0]!.tokens);
  }
  expect(prompt.length).toBeGreaterThan(2 * 224);
  return { cachedTokens };
}

describe('a session with images', () => {
  it('answers as if it were one prompt, and reads nothing twice', async () => {
    expect((await compare(await open(), 4)).cachedTokens).toBeGreaterThan(600);
  });

  it('has its images still where all of it is read anew, since nothing could be parked', async () => {
    expect((await compare(await open({ swapMemory: 0 }), 4)).cachedTokens).toBe(0);
  });

  it('holds them until it ends, and sessions never more than their share', async () => {
    const rowBytes = tiles * imageTokens * tinyVisionShape.hidden * Float32Array.BYTES_PER_ELEMENT;
    // Of four images; one that is not encoded yet is larger.
    const opened = await open({ imageMemory: 4 * rowBytes + tiles * 3 * imageSize ** 2 });
    const { tokens, imageAt } = turnOf(0, opened.info.spec.vision!.imageTokenId);
    const ask = (session: string | undefined, shade: number, goesOn = false) =>
      generate(
        opened,
        requestFor(tokens, {
          ...answer,
          images: [imageOf(shade, imageAt)],
          ...(session !== undefined && { session, goesOn }),
        }),
      );
    await ask('a', 3);
    await ask('a', 4, true);
    await ask('b', 5);
    await expect(ask('b', 6, true)).rejects.toMatchObject({
      code: 'queue_full',
      message: expect.stringContaining('End a session'),
    });
    // There is room for others, in which what they leave gives way.
    for (const shade of [7, 8, 9]) await ask(undefined, shade);
    opened.endSession('a');
    await ask('b', 6, true);
    opened.endSession('b');
    const { images } = await opened.stats();
    expect(images!.encoded).toBe(7);
    for (const shade of [10, 11]) await ask('c', shade, shade > 10);
  });

  it('has none of a request that was given up while they were encoded', async () => {
    const opened = await open();
    const { tokens, imageAt } = turnOf(0, opened.info.spec.vision!.imageTokenId);
    const first = requestFor(tokens, { ...answer, session: 'a', images: [imageOf(3, imageAt)] });
    opened.submit(first, () => undefined);
    opened.cancel(first.id);
    const again = { ...answer, session: 'a', images: [imageOf(4, imageAt)] };
    const inSession = await generate(opened, requestFor(tokens, again));
    const whole = await generate(opened, requestFor(tokens, { ...answer, images: [imageOf(4, imageAt)] }));
    expect(inSession.usage.promptTokens).toBe(tokens.length);
    expect(said(inSession)).toEqual(said(whole));
  });
});

import { describe, expect, it } from 'vitest';
import { ImageStore } from '../../../engine/images/image-store.js';
import type { PromptImage, VisionSpec } from '../../../engine/index.js';

const vision: VisionSpec = {
  ...{ imageSize: 4, patchSize: 2, patchesPerSide: 2, hidden: 2, layers: 1, heads: 1, ffn: 2 },
  ...{ normEps: 1e-6, scaleFactor: 1, imageTokenId: 9, tokensPerTile: 4 },
};
const hidden = 2;
/** Of a tile: more than its rows take. */
const pixelBytes = 3 * 4 * 4;
const rowBytes = 4 * hidden * 4;
const promptTokens = 100;

function image(hash: string, tiles = 1): PromptImage {
  return {
    hash,
    pixels: new Uint8Array(tiles * pixelBytes).fill(hash.charCodeAt(0)),
    positions: Int32Array.from({ length: tiles }, (_, tile) => tile * vision.tokensPerTile),
  };
}

/** A store whose encoder gives each tile's rows, which hold its first pixel, when it is told to. */
function open(capacityBytes: number) {
  const waiting: (() => void)[] = [];
  let closed = false;
  const store = new ImageStore({
    encoder: {
      threads: 1,
      weightBytes: 0,
      encode: (pixels) => {
        const rows = new Float32Array(vision.tokensPerTile * hidden).fill(pixels[0]!);
        return new Promise((resolve) => waiting.push(() => resolve(rows)));
      },
      close: () => {
        closed = true;
      },
    },
    vision,
    processing: { longestEdge: 4, tileSize: 4, rescaleFactor: 1, mean: [0, 0, 0], std: [1, 1, 1] },
    hidden,
    capacityBytes,
  });
  const atWork = () => expect.poll(() => waiting.length, { timeout: 60_000 }).toBeGreaterThan(0);
  /** Lets it end with the next tile. */
  const encodeTile = async () => {
    await atWork();
    waiting.shift()!();
  };
  const use = (...images: PromptImage[]) => store.use(images, promptTokens);
  return { store, use, atWork, encodeTile, isClosed: () => closed };
}

describe('images of requests', () => {
  it('are encoded once for all requests that show them, and have a key of their own', async () => {
    const { store, use, encodeTile } = open(1000);
    const [a] = use(image('a', 2));
    const [again, b] = use(image('a', 2), image('b'));
    expect(again).toBe(a);
    expect(new Set([a!.key, b!.key]).size).toBe(2);
    for (let tile = 0; tile < 3; tile++) await encodeTile();
    expect(await a!.rows).toEqual(new Float32Array(16).fill(97));
    expect(await b!.rows).toEqual(new Float32Array(8).fill(98));
    expect(store.stats()).toMatchObject({ encoded: 2, reused: 1, heldBytes: 3 * rowBytes });
  });

  it('are given up between two tiles where nobody waits for them any more', async () => {
    const { store, use, encodeTile } = open(1000);
    const [a] = use(image('a', 3));
    await encodeTile();
    store.release([{ image: a!, positions: Int32Array.of(0, 4, 8) }]);
    await encodeTile();
    expect(await a!.rows).toBeUndefined();
    expect(store.stats()).toMatchObject({ encoded: 0, heldBytes: 0 });
    const [again] = use(image('a', 3));
    expect(again!.key).not.toBe(a!.key);
    for (let tile = 0; tile < 3; tile++) await encodeTile();
    expect(await again!.rows).toHaveLength(24);
  });

  it('are refused beyond the memory for them, and have it when others have ended', async () => {
    const { store, use, encodeTile } = open(2 * pixelBytes);
    const first = use(image('a'), image('b'));
    expect(() => use(image('c'))).toThrow(expect.objectContaining({ code: 'queue_full' }));
    expect(() => use(image('d', 3))).toThrow(expect.objectContaining({ code: 'invalid_request' }));
    await encodeTile();
    await encodeTile();
    await Promise.all(first.map(({ rows }) => rows));
    expect(store.stats().heldBytes).toBe(2 * rowBytes);
    expect(() => use(image('c'))).toThrow(expect.objectContaining({ code: 'queue_full' }));
    // Neither was counted for what was refused.
    store.release(first.map((image) => ({ image, positions: Int32Array.of(0) })));
    const [c] = use(image('c'));
    expect(store.stats().heldBytes).toBe(rowBytes + pixelBytes);
    await encodeTile();
    expect(await c!.rows).toEqual(new Float32Array(8).fill(99));
    // The one that was used last is still there.
    use(image('b'));
    expect(store.stats()).toMatchObject({ encoded: 3, reused: 1 });
  });

  it('are not waited for when the store closes, but for the tile that is at work', async () => {
    const { store, use, atWork, encodeTile, isClosed } = open(1000);
    const [a, b] = use(image('a', 2), image('b'));
    expect(store.stats().heldBytes).toBe(3 * pixelBytes);
    await atWork();
    const closing = store.close();
    expect(isClosed()).toBe(false);
    await encodeTile();
    await closing;
    expect(isClosed()).toBe(true);
    expect([await a!.rows, await b!.rows]).toEqual([undefined, undefined]);
  });

  it('are checked against what the encoder reads', () => {
    const { use } = open(1000);
    const short = { ...image('a'), pixels: new Uint8Array(5) };
    expect(() => use(short)).toThrow('5 bytes of pixels');
    expect(() => use({ ...image('a'), positions: Int32Array.of(promptTokens - 1) })).toThrow(
      'ends behind the prompt',
    );
  });
});

import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ImageReader } from '../../../server/images/image-reader.js';
import { formedPng, type PngForm } from './test-image.js';

/** Written by test/fixtures/images/make.py. */
const fixture = JSON.parse(
  readFileSync(new URL('../../fixtures/images/odd-images.json', import.meta.url), 'utf8'),
) as { side: number; files: Record<string, { bytes: string; rgb: string }> };
const { side } = fixture;

let reader: ImageReader;
beforeAll(() => {
  const none = [0, 0, 0] as const;
  const processing = { longestEdge: side, tileSize: side, rescaleFactor: 1, mean: none, std: none };
  reader = new ImageReader({ processing, limits: { maxPixels: 1e6 } });
});
afterAll(() => reader.close());

/** [side * side * 3], as decoded: an image of a tile's size is not resized. */
async function decoded(bytes: Uint8Array): Promise<number[]> {
  const [image] = await reader.read([{ bytes: new Uint8Array(bytes), detail: 'low', param: 'here' }]);
  const plane = side ** 2;
  return Array.from({ length: 3 * plane }, (_, i) => image!.pixels[(i % 3) * plane + Math.floor(i / 3)]!);
}

/** The largest distance of two colours, of 255 levels. */
const distance = (a: readonly number[], b: ArrayLike<number>) =>
  a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i]!)), 0);

/** A channel of `colour` over white. */
const overWhite = (colour: number, alpha: number) => (colour * alpha + 255 * (255 - alpha)) / 255;

describe('PNGs of every form', () => {
  const wave = (x: number, y: number, most: number) => (x * 7 + y * 3 + ((x * y) >> 2)) % (most + 1);
  const palette = Array.from({ length: 16 }, (_, i) => [i * 16, 255 - i * 9, i * 5] as const);
  /** What is written at a place, and what is to be seen there. */
  const cases: Record<string, [PngForm, (x: number, y: number) => [samples: number[], seen: number[]]]> = {};
  for (const bits of [1, 2, 4, 8, 16] as const) {
    cases[`${bits} bits of grey`] = [
      { colourType: 0, bits },
      (x, y) => {
        const sample = wave(x, y, 2 ** bits - 1);
        const seen = bits === 16 ? sample / 257 : (sample * 255) / (2 ** bits - 1);
        return [[sample], [seen, seen, seen]];
      },
    ];
  }
  for (const bits of [1, 2, 4] as const) {
    cases[`${bits} bits of a palette with transparent colours`] = [
      { colourType: 3, bits, palette: palette.slice(0, 2 ** bits), transparent: [0, 128] },
      (x, y) => {
        const index = wave(x, y, 2 ** bits - 1);
        const alpha = [0, 128][index] ?? 255;
        return [[index], palette[index]!.map((colour) => overWhite(colour, alpha))];
      },
    ];
  }
  for (const bits of [8, 16] as const) {
    const scale = bits === 16 ? 257 : 1;
    const colour = (x: number, y: number) => [x * 15, y * 15, (x + y) * 8];
    cases[`${bits} bits of RGB, one of which is transparent`] = [
      { colourType: 2, bits, transparent: colour(3, 5).map((value) => value * scale) },
      (x, y) => {
        const isHole = x === 3 && y === 5;
        return [colour(x, y).map((value) => value * scale), isHole ? [255, 255, 255] : colour(x, y)];
      },
    ];
    cases[`${bits} bits of grey and alpha`] = [
      { colourType: 4, bits },
      (x, y) => {
        const [grey, alpha] = [x * 15, y * 17];
        const seen = overWhite(grey, alpha);
        return [
          [grey * scale, alpha * scale],
          [seen, seen, seen],
        ];
      },
    ];
    cases[`${bits} bits of RGBA`] = [
      { colourType: 6, bits },
      (x, y) => [
        [...colour(x, y), y * 17].map((value) => value * scale),
        colour(x, y).map((value) => overWhite(value, y * 17)),
      ],
    ];
  }

  for (const [name, [form, at]] of Object.entries(cases)) {
    it(`are seen as they were written: ${name}`, async () => {
      const seen: number[] = [];
      for (let y = 0; y < side; y++) for (let x = 0; x < side; x++) seen.push(...at(x, y)[1]);
      for (const interlaced of [false, true]) {
        const bytes = formedPng(side, { ...form, interlaced }, (x, y) => at(x, y)[0]);
        // Rounding of 16 bits to 8, and of alpha.
        expect(distance(await decoded(bytes), seen)).toBeLessThanOrEqual(1);
      }
    });
  }
});

describe('files of other kinds', () => {
  const bytesOf = (name: string) => Buffer.from(fixture.files[name]!.bytes, 'base64');

  for (const [name, { bytes, rgb }] of Object.entries(fixture.files)) {
    it(`are decoded as by Pillow: ${name}`, async () => {
      const seen = await decoded(Buffer.from(bytes, 'base64'));
      // The transforms of JPEG are rounded in one way or another.
      const most = name.includes('JPEG') ? 3 : 1;
      expect(distance(seen, Buffer.from(rgb, 'base64'))).toBeLessThanOrEqual(most);
    });
  }

  it.each(['baseline JPEG', 'progressive JPEG', 'lossless WebP'])(
    'are refused where they are cut off: %s',
    async (name) => {
      const bytes = bytesOf(name);
      for (const share of [0.3, 0.6]) {
        await expect(decoded(bytes.subarray(0, bytes.length * share))).rejects.toMatchObject({
          status: 400,
          details: { code: 'invalid_image', param: 'here' },
        });
      }
    },
  );
});

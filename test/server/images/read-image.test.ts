import { describe, expect, it } from 'vitest';
import { ImageReader } from '../../../server/images/image-reader.js';
import { planTiles } from '../../../server/images/tiles.js';
import { grey, png } from './test-image.js';

const processing = {
  longestEdge: 64,
  tileSize: 16,
  rescaleFactor: 1 / 255,
  mean: [0.5, 0.5, 0.5] as const,
  std: [0.5, 0.5, 0.5] as const,
};

/** One line of pixels at another length: Lanczos, three lobes of the coarser of both. */
function resampled(line: readonly number[], length: number): number[] {
  const scale = line.length / length;
  const stretch = Math.max(1, scale);
  const sinc = (x: number) => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));
  return Array.from({ length }, (_, i) => {
    const centre = (i + 0.5) * scale;
    let [sum, weights] = [0, 0];
    for (
      let j = Math.max(0, Math.floor(centre - 3 * stretch));
      j < Math.min(line.length, centre + 3 * stretch);
      j++
    ) {
      const x = (j + 0.5 - centre) / stretch;
      const weight = Math.abs(x) < 3 ? sinc(x) * sinc(x / 3) : 0;
      sum += weight * line[j]!;
      weights += weight;
    }
    return Math.min(255, Math.max(0, Math.round(sum / weights)));
  });
}

/** [height][width] of one colour */
type Plane = readonly (readonly number[])[];
const transposed = (plane: Plane): number[][] => plane[0]!.map((_, x) => plane.map((row) => row[x]!));
const resized = (plane: Plane, width: number, height: number): Plane =>
  transposed(transposed(plane.map((row) => resampled(row, width))).map((row) => resampled(row, height)));

async function read(bytes: Uint8Array, detail: 'low' | 'high') {
  const reader = new ImageReader({ processing, limits: { maxPixels: 1e6 } });
  try {
    const [image] = await reader.read([{ bytes: new Uint8Array(bytes), detail, param: 'here' }]);
    return image!;
  } finally {
    await reader.close();
  }
}

describe('the tiles of an image', () => {
  // By Idefics3ImageProcessor of transformers, longest_edge 2048 and max_image_size 512.
  it.each([
    [
      { width: 1000, height: 500 },
      { width: 2048, height: 1024 },
      { rows: 2, columns: 4 },
    ],
    [
      { width: 500, height: 1000 },
      { width: 1024, height: 2048 },
      { rows: 4, columns: 2 },
    ],
    [
      { width: 32, height: 32 },
      { width: 2048, height: 2048 },
      { rows: 4, columns: 4 },
    ],
    [
      { width: 3000, height: 1 },
      { width: 2048, height: 512 },
      { rows: 1, columns: 4 },
    ],
  ])('of %o', (size, whole, grid) => {
    expect(planTiles(size, { longestEdge: 2048, tileSize: 512 }, true)).toMatchObject({ whole, grid });
    expect(planTiles(size, { longestEdge: 2048, tileSize: 512 }, false).grid).toEqual({
      rows: 0,
      columns: 0,
    });
  });

  it('are what plain Lanczos resampling makes, row by row, then the whole', async () => {
    const at = (x: number, y: number, channel: number) =>
      Math.round(127 + 90 * Math.sin(x / (7 + channel)) * Math.cos(y / (5 + channel)));
    const [width, height] = [90, 40];
    const bytes = png(width, height, (x, y) => [at(x, y, 0), at(x, y, 1), at(x, y, 2)]);
    const { pixels, grid } = await read(bytes, 'high');
    expect(grid).toEqual({ rows: 2, columns: 4 });
    const size = processing.tileSize;
    let worst = 0;
    for (let channel = 0; channel < 3; channel++) {
      const given = Array.from({ length: height }, (_, y) =>
        Array.from({ length: width }, (_, x) => at(x, y, channel)),
      );
      const whole = resized(resized(given, 64, 28), 64, 32);
      const small = resized(whole, size, size);
      for (let tile = 0; tile <= 8; tile++) {
        for (let i = 0; i < size * size; i++) {
          const [x, y] = [i % size, Math.floor(i / size)];
          const expected =
            tile === 8 ? small[y]![x]! : whole[Math.floor(tile / 4) * size + y]![(tile % 4) * size + x]!;
          const distance = Math.abs(pixels[(tile * 3 + channel) * size * size + i]! - expected);
          worst = Math.max(worst, distance);
        }
      }
    }
    // Of 255 levels: weights are integers, and end where their window does.
    expect(worst).toBeLessThanOrEqual(2);
  });

  it('of a grey image have three colours', async () => {
    const { pixels } = await read(grey(9, 9, 77), 'low');
    expect(pixels.length).toBe(3 * processing.tileSize ** 2);
    expect(pixels.every((level) => level === 77)).toBe(true);
  });

  it('show what is transparent on white', async () => {
    const { pixels } = await read(
      png(20, 20, () => [200, 0, 0, 0]),
      'low',
    );
    expect(pixels.length).toBe(3 * processing.tileSize ** 2);
    expect(pixels.every((level) => level === 255)).toBe(true);
  });
});

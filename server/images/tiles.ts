import type { ImageProcessing } from '../../engine/index.js';

/*
 * How Idefics3 cuts images (transformers, image_processing_idefics3.py): an image is resized so that its longer edge has a
 * given length, then so that both are whole tiles, which nearly keeps its shape; it is cut into these, row by row, and
 * comes once more as a whole, as small as a tile.
 */

export interface Size {
  readonly width: number;
  readonly height: number;
}

/** Tiles of an image but the whole one; none where that is all there is. */
export interface TileGrid {
  readonly rows: number;
  readonly columns: number;
}

export interface TilePlan {
  /** The sizes that the image is resized to, one after another. */
  readonly longest: Size;
  readonly whole: Size;
  readonly grid: TileGrid;
}

/** `isSplit`: whether the parts are wanted, or the whole alone. */
export function planTiles(
  image: Size,
  { longestEdge, tileSize }: Pick<ImageProcessing, 'longestEdge' | 'tileSize'>,
  isSplit: boolean,
): TilePlan {
  const longest = atLongestEdge(image, longestEdge);
  const whole = inWholeTiles(longest, tileSize);
  const [rows, columns] = [whole.height / tileSize, whole.width / tileSize];
  return {
    longest,
    whole,
    grid: isSplit && rows * columns > 1 ? { rows, columns } : { rows: 0, columns: 0 },
  };
}

/** Tiles there are of it, the whole one among them. */
export function tileCount({ rows, columns }: TileGrid): number {
  return rows * columns + 1;
}

function atLongestEdge({ width, height }: Size, edge: number): Size {
  const ratio = width / height;
  if (width >= height) return { width: edge, height: even(Math.trunc(edge / ratio)) };
  return { width: even(Math.trunc(edge * ratio)), height: edge };
}

function inWholeTiles({ width, height }: Size, tileSize: number): Size {
  const whole = (pixels: number) => Math.ceil(pixels / tileSize) * tileSize;
  const ratio = width / height;
  if (width >= height) return { width: whole(width), height: whole(Math.trunc(whole(width) / ratio)) };
  return { width: whole(Math.trunc(whole(height) * ratio)), height: whole(height) };
}

function even(pixels: number): number {
  return Math.max(1, pixels + (pixels % 2));
}

import type { Size, TileGrid } from './tiles.js';

/**
 * The tiles of an image as the vision encoder takes them, [tiles, 3, tileSize, tileSize]: those of its parts, row by row,
 * then the whole. whole [height, width, 3], of `size`; small [tileSize, tileSize, 3].
 */
export function cutTiles(
  whole: Uint8Array,
  size: Size,
  small: Uint8Array,
  grid: TileGrid,
  tileSize: number,
): Uint8Array {
  const tileBytes = 3 * tileSize ** 2;
  const out = new Uint8Array((grid.rows * grid.columns + 1) * tileBytes);
  for (let tile = 0; tile < grid.rows * grid.columns; tile++) {
    const row = Math.floor(tile / grid.columns) * tileSize;
    const column = (tile % grid.columns) * tileSize;
    copyPlanes(whole, (row * size.width + column) * 3, size.width, out, tile * tileBytes, tileSize);
  }
  copyPlanes(small, 0, tileSize, out, out.length - tileBytes, tileSize);
  return out;
}

/** One tile, from pixels of three neighbouring bytes into three planes. */
function copyPlanes(
  from: Uint8Array,
  begin: number,
  width: number,
  out: Uint8Array,
  at: number,
  tileSize: number,
): void {
  const plane = tileSize ** 2;
  for (let y = 0; y < tileSize; y++) {
    let source = begin + y * width * 3;
    let target = at + y * tileSize;
    for (let x = 0; x < tileSize; x++, source += 3, target++) {
      out[target] = from[source]!;
      out[target + plane] = from[source + 1]!;
      out[target + 2 * plane] = from[source + 2]!;
    }
  }
}

import { deflateSync } from 'node:zlib';

type Colour = readonly [red: number, green: number, blue: number, alpha?: number];

/** The bytes of a PNG of this size, written without the library that reads it. */
export function png(width: number, height: number, colourAt: (x: number, y: number) => Colour): Buffer {
  const rows = Buffer.alloc(height * (1 + 4 * width));
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const [red, green, blue, alpha = 255] = colourAt(x, y);
      rows.set([red, green, blue, alpha], y * (1 + 4 * width) + 1 + 4 * x);
    }
  }
  return pngOf(headOf(width, height, 6), rows);
}

/** All of one level, without colours. */
export function grey(width: number, height: number, level: number): Buffer {
  const rows = Buffer.alloc(height * (1 + width), level);
  for (let y = 0; y < height; y++) rows[y * (1 + width)] = 0;
  return pngOf(headOf(width, height, 0), rows);
}

/** Says that it is of this size, and is a few bytes. */
export function bomb(width: number, height: number): Buffer {
  return pngOf(headOf(width, height, 2), Buffer.alloc(1));
}

/** How the pixels of a PNG are written. */
export interface PngForm {
  /** 0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGBA */
  readonly colourType: 0 | 2 | 3 | 4 | 6;
  readonly bits: 1 | 2 | 4 | 8 | 16;
  readonly interlaced?: boolean;
  readonly palette?: readonly (readonly [red: number, green: number, blue: number])[];
  /** `tRNS`: alphas of the palette, or the grey or colour that is transparent. */
  readonly transparent?: readonly number[];
}

/** Of samples as they are in the file, [channels] for each pixel. */
export function formedPng(
  side: number,
  { colourType, bits, interlaced = false, palette, transparent }: PngForm,
  samplesAt: (x: number, y: number) => readonly number[],
): Buffer {
  // Adam7: x and y of the first pixel of each pass, and the steps to the next ones.
  const adam7 = [
    [0, 0, 8, 8],
    [4, 0, 8, 8],
    [0, 4, 4, 8],
    [2, 0, 4, 4],
    [0, 2, 2, 4],
    [1, 0, 2, 2],
    [0, 1, 1, 2],
  ];
  const rows: number[] = [];
  for (const [x0, y0, dx, dy] of interlaced ? adam7 : [[0, 0, 1, 1]]) {
    for (let y = y0!; y < side; y += dy!) {
      let line = '';
      for (let x = x0!; x < side; x += dx!) {
        for (const sample of samplesAt(x, y)) line += sample.toString(2).padStart(bits, '0');
      }
      rows.push(0, ...(line.match(/.{1,8}/g) ?? []).map((byte) => Number.parseInt(byte.padEnd(8, '0'), 2)));
    }
  }
  const head = headOf(side, side, colourType, bits, interlaced);
  const alphas =
    transparent && (colourType === 3 ? transparent : transparent.flatMap((v) => [v >> 8, v & 255]));
  return pngOf(head, Buffer.from(rows), [
    ...(palette ? [chunk('PLTE', Buffer.from(palette.flat()))] : []),
    ...(alphas ? [chunk('tRNS', Buffer.from(alphas))] : []),
  ]);
}

export function dataUrl(bytes: Uint8Array, type = 'image/png'): string {
  return `data:${type};base64,${Buffer.from(bytes).toString('base64')}`;
}

function headOf(width: number, height: number, colourType: number, bits = 8, interlaced = false): Buffer {
  const head = Buffer.alloc(13);
  head.writeUInt32BE(width, 0);
  head.writeUInt32BE(height, 4);
  head.set([bits, colourType, 0, 0, interlaced ? 1 : 0], 8);
  return head;
}

/** `others`: chunks that stand before the pixels. */
function pngOf(head: Buffer, rows: Buffer, others: readonly Buffer[] = []): Buffer {
  const signature = Buffer.from('\x89PNG\r\n\x1a\n', 'latin1');
  return Buffer.concat([
    signature,
    chunk('IHDR', head),
    ...others,
    chunk('IDAT', deflateSync(rows)),
    chunk('IEND', Buffer.alloc(0)),
  ]);
}

function chunk(type: string, data: Buffer): Buffer {
  const named = Buffer.concat([Buffer.from(type, 'latin1'), data]);
  const out = Buffer.alloc(named.length + 8);
  out.writeUInt32BE(data.length, 0);
  named.copy(out, 4);
  out.writeUInt32BE(crc32(named), out.length - 4);
  return out;
}

/** The specification of PNG, annex D. */
function crc32(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  }
  return ~crc >>> 0;
}

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

export function dataUrl(bytes: Uint8Array, type = 'image/png'): string {
  return `data:${type};base64,${Buffer.from(bytes).toString('base64')}`;
}

/** Of 8 bits a channel. */
function headOf(width: number, height: number, colourType: number): Buffer {
  const head = Buffer.alloc(13);
  head.writeUInt32BE(width, 0);
  head.writeUInt32BE(height, 4);
  head.set([8, colourType, 0, 0, 0], 8);
  return head;
}

function pngOf(head: Buffer, rows: Buffer): Buffer {
  const signature = Buffer.from('\x89PNG\r\n\x1a\n', 'latin1');
  return Buffer.concat([
    signature,
    chunk('IHDR', head),
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

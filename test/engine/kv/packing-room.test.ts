import { describe, expect, it } from 'vitest';
import { packingRoom, roomBeside } from '../../../engine/kv/packing-room.js';
import { byAttention, type PackedForm, uniform } from '../../../engine/kv/page-classes.js';

const zip: PackedForm = { high: 'int4', low: 'int2', pick: byAttention(0.99) };
/** Of the demo model, whose chunks of 16 pages are less than three blocks of six layers. */
const kv = {
  blockBytes: 196_608,
  classBlockBytes: { bf16: 196_608, int8: 104_448, int4: 58_368, int2: 33_792, far: 6528 },
  chunkBlocks: 3,
  totalBlocks: 1024,
};

describe('room beside a sequence that starts', () => {
  it('is a chunk of each class that others may be packed into', () => {
    expect(roomBeside(kv, [zip])).toBe(6);
    expect(roomBeside(kv, [uniform('int4')])).toBe(3);
  });

  it('holds a batch that does not fit into a chunk', () => {
    // Eight blocks become 4.25.
    expect(roomBeside(kv, [uniform('int8')])).toBe(5);
    // A block has more pages than a chunk: 2.4 blocks of the one class, or a part of that and a chunk of the other.
    expect(roomBeside({ ...kv, chunkBlocks: 1 }, [zip])).toBe(4);
  });

  it('is less than the longest sequence leaves free, so that this one always gets on', () => {
    for (const totalBlocks of [10, 30, 1024]) {
      for (const forms of [[zip], [uniform('int4')], [uniform('int8'), zip]]) {
        expect(roomBeside({ ...kv, totalBlocks }, forms)).toBeLessThan(
          packingRoom({ ...kv, totalBlocks }, forms),
        );
      }
    }
  });
});

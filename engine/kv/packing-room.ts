import type { KvPool, PageClass } from '../device/device.js';
import { decidesByAttention, type PackedForm } from './page-classes.js';

/** Blocks of one sequence that are converted at once; for a while there are both forms of them. */
export const batchBlocks = 8;

/** What the room depends on. */
export type PoolSizes = Pick<KvPool, 'blockBytes' | 'classBlockBytes' | 'chunkBlocks' | 'totalBlocks'>;

/** Bytes of a block at most, whatever of it is picked. */
export function mostBytes({ classBlockBytes }: PoolSizes, forms: readonly PackedForm[]): number {
  const bytesOf = (name: PageClass) => (name === 'none' ? 0 : classBlockBytes[name]);
  return Math.max(...forms.flatMap(({ high, low }) => [bytesOf(high), bytesOf(low)]));
}

/** Classes that pages are packed into at once, at most. */
function classesAtOnce(forms: readonly PackedForm[]): number {
  return forms.some(decidesByAttention) ? 2 : 1;
}

/** Blocks that a batch becomes, at most. */
function batchRoom(kv: PoolSizes, forms: readonly PackedForm[]): number {
  return Math.ceil((batchBlocks * mostBytes(kv, forms)) / kv.blockBytes);
}

/**
 * Blocks to keep free beside a sequence that starts, so that those that run can be packed: the chunks that one batch begins at
 * most. More would only keep sequences out, since packing begins ahead of time: what finds no room is tried again, in smaller
 * parts, before each of the steps that are left until it is due.
 */
export function roomBeside(kv: PoolSizes, forms: readonly PackedForm[]): number {
  const { chunkBlocks } = kv;
  const wanted = classesAtOnce(forms) * chunkBlocks + Math.max(0, batchRoom(kv, forms) - chunkBlocks);
  return Math.min(wanted, packingRoom(kv, forms));
}

/** Blocks that the longest sequence leaves free, so that it can be packed while it holds its exact pages, and is alone. */
export function packingRoom(kv: PoolSizes, forms: readonly PackedForm[]): number {
  // A packed page needs a chunk of its class, and pages of another class may lie at both ends of what is free.
  const least = (classesAtOnce(forms) + 1) * kv.chunkBlocks;
  const wanted = least + batchRoom(kv, forms);
  return Math.max(least, Math.min(wanted, Math.floor(kv.totalBlocks / 8)));
}

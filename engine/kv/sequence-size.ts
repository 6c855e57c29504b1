import type { KvPool } from '../device/device.js';
import type { Sequence } from '../sequence.js';
import type { KvUsage } from '../types.js';
import { blocksFor } from './admission.js';
import { classesOf, type PackedForm } from './page-classes.js';
import { PageCounts } from './page-counts.js';
import type { PartitionRule } from './partition-rule.js';
import type { PressureRule } from './pressure-rule.js';
import type { SequencePacking } from './sequence-packing.js';
import type { Sights } from './sights.js';

export interface SequenceSizeOptions {
  readonly kv: KvPool;
  readonly layers: number;
  readonly packing: SequencePacking | undefined;
  readonly partitions: PartitionRule | undefined;
  readonly pressure: PressureRule | undefined;
  /** What pages are packed into where attention decides on it. */
  readonly form: PackedForm | undefined;
  readonly sights: Sights;
}

/** What sequences hold, and what of it a step reads. */
export class SequenceSize {
  constructor(private readonly options: SequenceSizeOptions) {}

  /** Bytes of what the sequence holds. */
  heldBytes(sequence: Sequence): number {
    const { kv, packing } = this.options;
    const { packedBytes, unpackedTokens, packedTokens } = sequence;
    const unpacked =
      packing?.unpackedBytes(sequence, packedTokens + unpackedTokens) ??
      blocksFor(unpackedTokens, kv.pageTokens) * kv.blockBytes;
    return packedBytes + unpacked;
  }

  /** Bytes of one token's K and V in all layers, as a mean over those that its next rows attend to. */
  bytesPerToken(sequence: Sequence): number {
    const { kv, packing, partitions } = this.options;
    const { packedTokens, packedBytes, unpackedTokens } = sequence;
    if (packedTokens === 0) return kv.blockBytes / kv.pageTokens;
    const seenPacked = this.#seenPacked(sequence);
    // Those that it sees are read whole, wherever they lie.
    const packed = partitions ? kv.classBlockBytes.int4 / kv.pageTokens : packedBytes / packedTokens;
    const unpacked = kv.classBlockBytes[packing?.bornClass(sequence) ?? kv.precision] / kv.pageTokens;
    return (seenPacked * packed + unpackedTokens * unpacked) / (seenPacked + unpackedTokens);
  }

  /** Tokens that its next rows attend to before their own, as a mean. */
  contextOf(sequence: Sequence): number {
    const { sights } = this.options;
    return sights.contextOf(sequence) ?? this.#seenPacked(sequence) + sequence.unpackedTokens;
  }

  /** What the sequence's KV has come to. */
  usageOf(sequence: Sequence): KvUsage {
    const { layers, form } = this.options;
    const { computedTokens, droppedTokens, farTokens, packedClasses } = sequence;
    const pages = form && new PageCounts(layers, form);
    for (const key of packedClasses) pages?.add(classesOf(key, layers));
    return {
      tokens: computedTokens,
      droppedTokens,
      farTokens,
      bytes: this.heldBytes(sequence),
      layers: pages?.byLayer ?? [],
    };
  }

  /** Of the packed tokens, those that a token sees. */
  #seenPacked({ packedTokens, droppedTokens }: Sequence): number {
    const { kv, partitions, pressure } = this.options;
    if (partitions) return Math.min(packedTokens, partitions.topPages * kv.pageTokens);
    const rule = pressure?.partitions;
    if (!rule || droppedTokens === 0) return packedTokens;
    return Math.min(packedTokens, rule.sinkTokens + rule.topPages * kv.pageTokens);
  }
}

import type { Sequence } from '../sequence.js';
import type { PackedForm } from './page-classes.js';
import type { PartitionRule } from './partition-rule.js';
import type { CacheNode } from './prefix-cache.js';
import { type Look, probesAmong } from './probes.js';
import { Saliency } from './saliency.js';
import { PrefillSight, type SeenPages, type SparsePrefill } from './sparse-prefill.js';

export interface SightsOptions {
  readonly layers: number;
  readonly pageTokens: number;
  /** What pages are packed into where attention decides on it; absent: nowhere. */
  readonly form: PackedForm | undefined;
  /** Absent: the rows of a prompt look everywhere. */
  readonly sparse: SparsePrefill | undefined;
  /** Of sequences that drop tokens; absent: none does, or nobody looks. */
  readonly partitions: PartitionRule | undefined;
}

/** Where sequences look: which rows are looked at, what that decides, and which pages the rows of a prompt see. */
export class Sights {
  constructor(private readonly options: SightsOptions) {}

  /** Of the sequence's next `tokens` tokens, those whose attention decides something. */
  looksAmong({ promptTokens, computedTokens }: Sequence, tokens: number): Look[] {
    const { form, sparse } = this.options;
    const end = computedTokens + tokens;
    const packing = form ? probesAmong(promptTokens, computedTokens, end) : [];
    const sight = sparse?.probesAmong(promptTokens, computedTokens, end) ?? [];
    return [
      ...packing.map((run) => ({ run, decides: 'packing' }) as const),
      ...sight.map((run) => ({ run, decides: 'sight' }) as const),
    ];
  }

  /** Where the sequence's next rows look; undefined: everywhere. */
  seenBy(sequence: Sequence): SeenPages | undefined {
    return this.#of(sequence)?.at(sequence.computedTokens);
  }

  /** Tokens that its next row sees, as a mean over the layers; undefined: all that are held. */
  contextOf(sequence: Sequence): number | undefined {
    return this.#of(sequence)?.contextAt(sequence.computedTokens);
  }

  /** Where these rows of the sequence looked. */
  saw(sequence: Sequence, { run, decides }: Look, sums: Uint32Array): void {
    if (decides === 'sight') {
      this.#of(sequence)?.add(run, sums);
      return;
    }
    const { layers, pageTokens } = this.options;
    sequence.saliency ??= new Saliency(sequence.promptTokens, layers, pageTokens);
    sequence.saliency.add(run, this.#withDropped(sequence, sums));
  }

  /** Sequences that begin with the blocks of the path will know where their stretches look. */
  teach(sequence: Sequence): void {
    for (const [stretch, end] of this.#stretchEnds(sequence.path)) {
      const seen = sequence.sight?.ofStretch(stretch);
      if (seen) end.seen ??= seen;
    }
  }

  /** The sequence begins with the blocks of its path. */
  learn(sequence: Sequence): void {
    for (const [stretch, { seen }] of this.#stretchEnds(sequence.path)) {
      if (seen) this.#of(sequence)?.learn(stretch, seen);
    }
  }

  #of(sequence: Sequence): PrefillSight | undefined {
    const { sparse } = this.options;
    if (sparse) sequence.sight ??= new PrefillSight(sparse, sequence.promptTokens);
    return sequence.sight;
  }

  /** Of the stretches that begin behind a block of the path, that block. */
  #stretchEnds(path: readonly CacheNode[]): [number, CacheNode][] {
    const { sparse } = this.options;
    if (!sparse) return [];
    const { stretchPages } = sparse;
    const stretches = Math.floor(path.length / stretchPages);
    return Array.from({ length: stretches }, (_, index) => [
      index + 1,
      path[(index + 1) * stretchPages - 1]!,
    ]);
  }

  /** Sums by page, [layers, pages], of the pages that are held: with zeros for those that were dropped. */
  #withDropped({ droppedTokens }: Sequence, sums: Uint32Array): Uint32Array {
    const { layers, pageTokens, partitions } = this.options;
    if (!partitions || droppedTokens === 0) return sums;
    const held = sums.length / layers;
    const sink = partitions.sinkTokens / pageTokens;
    const dropped = droppedTokens / pageTokens;
    const all = new Uint32Array(layers * (held + dropped));
    for (let layer = 0; layer < layers; layer++) {
      const own = sums.subarray(layer * held, (layer + 1) * held);
      all.set(own.subarray(0, sink), layer * (held + dropped));
      all.set(own.subarray(sink), layer * (held + dropped) + sink + dropped);
    }
    return all;
  }
}

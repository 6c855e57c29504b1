import type { Sequence } from '../sequence.js';

/** What makes the KV of running sequences smaller, as `SequenceMemory` asks for it; the verbs are those of `Memory`. */
export interface Compression {
  /** Conversions that run. */
  readonly running: number;
  /** Blocks that were converted, since the start. */
  readonly convertedBlocks: number;
  /** Tokens that were given up, since the start. */
  readonly droppedTokens: number;
  /** Blocks to keep free beside a sequence that starts, so that others can be packed while they hold their exact pages. */
  readonly room: number;
  mustPack(sequence: Sequence): boolean;
  /** Tokens that a step may bring before more must be packed. */
  stepLimit(sequence: Sequence): number;
  /** The most blocks that a sequence takes from now on until it has `tokens` tokens. */
  mostBlocks(sequence: Sequence, tokens: number): number;
  pack(sequence: Sequence): boolean;
  /** Before the slot is closed or swapped: what is made but not due yet is given up. */
  abandon(sequence: Sequence): void;
  /** The sequence has left its slot; it does not share blocks with others any more. */
  release(sequence: Sequence): void;
}

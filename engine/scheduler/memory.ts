/** What a sequence would give for others. */
export interface Squeezable {
  /** How much it loses by that: none that has a higher one is squeezed before. */
  readonly rung: number;
  /** Tokens whose KV becomes smaller. */
  readonly tokens: number;
}

/**
 * KV memory and slots, as the scheduler asks for them. `engine/kv/sequence-memory.ts` answers for a device's pool and the
 * prefix cache; the simulator and the property tests count.
 */
export interface Memory<W> {
  readonly pageTokens: number;
  /** Bytes of one token's K and V in all layers, for this sequence at its present precision. */
  kvBytesPerToken(work: W): number;
  /** Tokens that its next rows attend to before their own, on average: fewer than are computed where rows do not look everywhere. */
  contextOf(work: W): number;
  /** Part of the memory that running sequences hold, 0 to 1. What the prefix cache alone holds does not count. */
  usage(): number;
  /** Tokens of a waiting sequence's prompt that are cached now. Changes nothing. */
  cachedTokens(work: W): number;
  /**
   * Whether a waiting sequence begins with what one that has ended holds, more than is cached: it will be when that one's
   * last step or conversion is done.
   */
  mustAwait(work: W): boolean;
  /**
   * Gives a waiting sequence a slot and what of its prompt is cached (`computedTokens`), if its tokens and `reserve`
   * more would fit. False, and nothing changed, if not.
   */
  admit(work: W, reserveTokens: number): boolean;
  /** Room for `tokens` tokens in all, from what is free or only cached. False, and nothing changed, if there is not. */
  reserve(work: W, tokens: number): boolean;
  /** Whether a slot is free. */
  readonly hasSlot: boolean;
  /**
   * Has as much be free as it takes to squeeze someone, from what lies scattered or is only kept for others. False if that
   * cannot be had: whoever is to be squeezed must be now. True where nobody ever is.
   */
  makeRoomToSqueeze(): boolean;
  /** What `squeeze` would do to a sequence that has a slot; undefined: nothing. */
  squeezable(work: W): Squeezable | undefined;
  /**
   * Has the sequence packed from now on, as `pack` does, for lack of memory. False if nothing comes of it: it is not in
   * flight, and there is no room to pack it.
   */
  squeeze(work: W): boolean;
  /** Whether any sequence is ever packed: where none is, nobody looks for what to pack before each step. */
  readonly packs: boolean;
  /** Whether more of the sequence's KV must be packed before its next step. */
  mustPack(work: W): boolean;
  /** Tokens that its next step may bring at most, so that none is computed behind KV that should be packed by then. */
  stepLimit(work: W): number;
  /**
   * Brings on what must be packed, and what will have to be soon, as far as can be now; `work.packing` says if it goes on
   * by itself, until `Scheduler.packed` is called. For a sequence that is not in flight. False if it must be packed before
   * its next step and memory is out.
   */
  pack(work: W): boolean;
  /** A further choice on the first one's prompt: a slot whose KV shares all but the last token. False if there is none. */
  fork(from: W, to: W): boolean;
  /** Frees the slot and all it holds. */
  release(work: W): void;
  /** Gives up all that is only kept for others, so that who comes next finds the memory in one piece. */
  giveUpKept(): void;
  /** Whether the sequence's KV may be copied to host memory now. */
  canSwap(work: W): boolean;
  /** Begins the copy; the slot and its pages are free when `Scheduler.swappedOut` is called. */
  swapOut(work: W): void;
  /**
   * Begins the way back, into a new slot, if there is one and room for its tokens and `reserve` more. False, and nothing
   * changed, if not. `Scheduler.swappedIn` is called at its end.
   */
  swapIn(work: W, reserveTokens: number): boolean;
  /** The copy in host memory is not needed any more. */
  dropSwapped(work: W): void;
  /**
   * Gives up all that a swapped sequence has computed, if it keeps pages in host memory and there is too little of that for
   * `wanting`. False, and nothing changed, if not.
   */
  giveUpFar(work: W, wanting: W): boolean;
}

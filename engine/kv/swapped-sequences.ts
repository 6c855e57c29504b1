import type { KvPool, SwappedKv } from '../device/device.js';
import type { Sequence } from '../sequence.js';
import type { ParkedKv, Session } from './session.js';

/** Sequences whose KV is in host memory, or on its way there or back, and what of ended ones is parked for their sessions. */
export class SwappedSequences {
  readonly #there = new Map<Sequence, SwappedKv>();
  /** Of those with far pages, whose session each is, in the order in which they were parked. */
  readonly #parkedFar = new Map<ParkedKv, Session>();
  #bytes = 0;
  #copies = 0;

  constructor(
    private readonly kv: KvPool,
    /** Bytes of host memory that they may take. */
    private readonly limitBytes: number,
  ) {}

  /** Bytes of host memory that they hold, or will. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Copies to and from host memory that run. */
  get copies(): number {
    return this.#copies;
  }

  hasRoom(bytes: number): boolean {
    return this.#bytes + bytes <= this.limitBytes;
  }

  /** Copies a slot's KV, of so many bytes, to host memory. `onEnd`: whether it is there; if not, it is lost. */
  copyOut(sequence: Sequence, bytes: number, onEnd: (isThere: boolean) => void): void {
    this.#bytes += bytes;
    this.#copies++;
    void this.kv.swapOut(sequence.slot).then(
      (swapped) => {
        this.#copies--;
        this.#there.set(sequence, swapped);
        this.#bytes += swapped.bytes - bytes;
        onEnd(true);
      },
      () => {
        this.#copies--;
        // No host memory after all.
        this.#bytes -= bytes;
        onEnd(false);
      },
    );
  }

  /** Copies it back into the sequence's slot, which is empty. `onEnd`: whether it is there; if not, it is lost. */
  copyIn(sequence: Sequence, onEnd: (isThere: boolean) => void): void {
    const swapped = this.#there.get(sequence);
    this.#copies++;
    const restored = swapped ? this.kv.swapIn(sequence.slot, swapped) : Promise.resolve(false);
    void restored
      .catch(() => false)
      .then((isThere) => {
        this.#copies--;
        this.#release(sequence);
        onEnd(isThere);
      });
  }

  /** Nobody goes on with the sequence; where it is one of a session that does, its KV is parked there. */
  drop(sequence: Sequence): void {
    const swapped = this.#there.get(sequence);
    const { session } = sequence.request;
    if (swapped && session && !session.isClosed && sequence.phase === 'ended') {
      this.#there.delete(sequence);
      const { computedTokens, packedTokens, farTokens, droppedTokens, packedBytes } = sequence;
      const parked = { swapped, computedTokens, packedTokens, farTokens, droppedTokens, packedBytes };
      session.park(parked);
      if (farTokens > 0) this.#parkedFar.set(parked, session);
    } else {
      this.#release(sequence);
    }
  }

  /** The sequence takes over what its session has parked. */
  unpark(sequence: Sequence, parked: ParkedKv): void {
    const { swapped, ...computed } = parked;
    this.#parkedFar.delete(parked);
    Object.assign(sequence, computed);
    this.#there.set(sequence, swapped);
  }

  /** Nobody will go on with it. */
  dropParked(parked: ParkedKv): void {
    this.#parkedFar.delete(parked);
    this.#bytes -= parked.swapped.bytes;
    parked.swapped.release();
  }

  /** Drops, of what is parked and has far pages, the first. False if there is none. */
  evictFar(): boolean {
    for (const [parked, session] of this.#parkedFar) {
      session.unpark();
      this.dropParked(parked);
      return true;
    }
    return false;
  }

  #release(sequence: Sequence): void {
    const swapped = this.#there.get(sequence);
    if (!swapped) return;
    this.#there.delete(sequence);
    this.#bytes -= swapped.bytes;
    swapped.release();
  }
}

import type { SwappedKv } from '../device/device.js';
import type { PlacedImage } from '../images/embed-prompt.js';
import type { Sequence } from '../sequence.js';

/** What of a sequence's tokens is computed, and lies in host memory. */
export type ParkedKv = { readonly swapped: SwappedKv } & Pick<
  Sequence,
  'computedTokens' | 'packedTokens' | 'farTokens' | 'droppedTokens' | 'packedBytes'
>;

/**
 * A sequence that goes on from request to request. Between two of them its tokens are kept here, and what was computed of
 * them in host memory. A request that follows is a new sequence, which takes both over.
 */
export class Session {
  /** Of the last request. */
  #sequence: Sequence | undefined;
  #parked: ParkedKv | undefined;
  #waiting: (() => void) | undefined;
  /** A request of it has begun and has no sequence yet: its images are being encoded. */
  #isBeginning = false;
  #images: readonly PlacedImage[] = [];
  /** Nobody goes on with it. */
  #isClosed = false;

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Whether a request of it runs, or waits. */
  get isRunning(): boolean {
    const goesOn = this.#sequence !== undefined && this.#sequence.phase !== 'ended';
    return this.#waiting !== undefined || this.#isBeginning || goesOn;
  }

  /** Of all requests so far, prompts and answers. */
  get tokens(): Int32Array {
    return this.#sequence?.tokens.view() ?? new Int32Array();
  }

  /** Those that `tokens` have, which are needed again where nothing of them was parked. */
  get images(): readonly PlacedImage[] {
    return this.#images;
  }

  /** Calls `next` once the last request has left its slot, which takes a copy; now, if it has. */
  whenFree(next: () => void): void {
    this.#waiting = next;
    this.checkFree();
  }

  /** What waits for that does not any more. */
  forgetWaiting(): void {
    this.#waiting = undefined;
  }

  /** The sequence of the last request may have left its slot. */
  checkFree(): void {
    const isFree = !this.#sequence || (this.#sequence.phase === 'ended' && this.#sequence.slot === -1);
    const next = this.#waiting;
    if (!isFree || !next) return;
    this.#waiting = undefined;
    this.#isBeginning = true;
    next();
  }

  /** The request that had begun is over, if it had no sequence yet. */
  giveUp(): void {
    this.#isBeginning = false;
  }

  /** The sequence goes on; what was parked is for it to take. */
  continueWith(sequence: Sequence): ParkedKv | undefined {
    this.#isBeginning = false;
    this.#sequence = sequence;
    return this.unpark();
  }

  /** These belong to its tokens from now on. */
  addImages(images: readonly PlacedImage[]): void {
    this.#images = [...this.#images, ...images];
  }

  /** Where nobody goes on with it and no request of it runs, the images that it had; else none. */
  takeUnused(): readonly PlacedImage[] {
    if (!this.#isClosed || this.isRunning) return [];
    const images = this.#images;
    this.#images = [];
    return images;
  }

  /** Nobody goes on with it; what is parked is for the caller to drop. */
  close(): ParkedKv | undefined {
    this.#isClosed = true;
    return this.unpark();
  }

  /** Keeps the KV of its sequence, which has ended. */
  park(parked: ParkedKv): void {
    this.#parked = parked;
  }

  /** Goes on without what was parked, which is for the caller to drop. */
  unpark(): ParkedKv | undefined {
    const parked = this.#parked;
    this.#parked = undefined;
    return parked;
  }
}

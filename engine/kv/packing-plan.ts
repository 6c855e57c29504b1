import { keyOf } from './page-classes.js';

/** What of a sequence is packed next, as it was decided: its blocks [begin, end), and the classes of their pages. */
export class PackingPlan {
  constructor(
    readonly begin: number,
    /** Blocks from here on take the class of recent tokens, and are packed later. */
    readonly packedEnd: number,
    readonly end: number,
    /** [end - begin, layers] */
    private readonly classes: Uint8Array,
    private readonly layers: number,
  ) {}

  /** [count, layers] */
  classesOf(block: number, count = 1): Uint8Array {
    const first = block - this.begin;
    return this.classes.slice(first * this.layers, (first + count) * this.layers);
  }

  /** The key of a block, which was packed into `before` till then, if it was. */
  keyOf(block: number, before: string | undefined): string {
    return keyOf(this.classesOf(block), before);
  }
}

import { type KvPool, type PageClass, pageClasses } from '../device/device.js';

/**
 * Which of a layer's pages are worth the high class: `scores` has the attention that each page receives, of which the first
 * `packable` may be packed. The rest are recent ones, and exact whatever is chosen. Returns a flag for each packable page.
 */
export type PagePicker = (scores: Float64Array, packable: number) => Uint8Array;

/** What a sequence's pages are packed into: `high` those that are picked, `low` the others. */
export interface PackedForm {
  readonly high: PageClass;
  readonly low: PageClass;
  readonly pick: PagePicker;
}

/** How a block's pages are packed, layer by layer: places in `pageClasses`. Blocks of the same bytes and classes are alike. */
export type BlockClasses = Uint8Array;

/**
 * The fewest pages on which, with the recent ones, the part `tau` of all attention falls (ZipVL, arXiv 2410.08584, section
 * 3.2, by pages instead of tokens): what is left to the low class receives less than 1 - tau of it.
 */
export function byAttention(tau: number): PagePicker {
  return (scores, packable) => {
    const picked = new Uint8Array(packable);
    // Sums that were rounded must not leave out a page.
    if (tau >= 1) return picked.fill(1);
    const total = scores.reduce((sum, score) => sum + score, 0);
    let covered = scores.subarray(packable).reduce((sum, score) => sum + score, 0);
    for (const page of byScore(scores, packable)) {
      if (covered >= tau * total) break;
      picked[page] = 1;
      covered += scores[page]!;
    }
    return picked;
  };
}

/** The first so many of a layer's pages, those that receive most first, earlier ones before later ones that receive as much. */
export function byScore(scores: Float64Array, count: number): number[] {
  return Array.from({ length: count }, (_, page) => page).sort((a, b) => scores[b]! - scores[a]! || a - b);
}

/** Whether where a sequence looks decides how its pages are packed. */
export function decidesByAttention({ high, low }: PackedForm): boolean {
  return high !== low;
}

/** All pages alike. */
export function uniform(precision: PageClass): PackedForm {
  return { high: precision, low: precision, pick: (_, packable) => new Uint8Array(packable) };
}

/** The class of each page of the blocks [begin, end), by the scores of each layer: [end - begin, layers]. */
export function chooseClasses(
  { high, low, pick }: PackedForm,
  scores: readonly Float64Array[],
  begin: number,
  end: number,
): Uint8Array {
  const layers = scores.length;
  const classes = new Uint8Array((end - begin) * layers).fill(pageClasses.indexOf(low));
  for (const [layer, ofLayer] of scores.entries()) {
    const picked = pick(ofLayer, end);
    for (let block = begin; block < end; block++) {
      if (picked[block]) classes[(block - begin) * layers + layer] = pageClasses.indexOf(high);
    }
  }
  return classes;
}

/** These classes, and behind them so many pages of one. */
export function followedBy(classes: Uint8Array, name: PageClass, pages: number): Uint8Array {
  const all = new Uint8Array(classes.length + pages).fill(pageClasses.indexOf(name));
  all.set(classes);
  return all;
}

/** The bytes of one block of these classes. */
export function bytesOfBlock({ classBlockBytes }: KvPool, classes: BlockClasses): number {
  let bytes = 0;
  for (const place of classes) {
    const name = pageClasses[place]!;
    if (name !== 'none') bytes += classBlockBytes[name];
  }
  return bytes / classes.length;
}

/** A block's classes as a key; behind that of what it was packed into before, since its bytes depend on that too. */
export function keyOf(classes: BlockClasses, before = ''): string {
  return before + String.fromCharCode(...classes);
}

/** The classes that a key stands for, of so many layers. */
export function classesOf(key: string, layers: number): BlockClasses {
  return Uint8Array.from(key.slice(-layers), (place) => place.charCodeAt(0));
}

import { pageClasses } from '../device/device.js';
import type { PackedForm } from './page-classes.js';

/** Of a layer's packed pages, how many are in the high class. */
export interface LayerPages {
  readonly high: number;
  readonly all: number;
}

/** How many pages of each layer were packed into the two classes of a form, and how many of these were picked. */
export class PageCounts {
  readonly #high: number[];
  readonly #all: number[];

  constructor(
    layers: number,
    private readonly form: PackedForm,
  ) {
    this.#high = new Array(layers).fill(0);
    this.#all = new Array(layers).fill(0);
  }

  get byLayer(): LayerPages[] {
    return this.#all.map((all, layer) => ({ high: this.#high[layer]!, all }));
  }

  /** @param classes [blocks, layers] */
  add(classes: Uint8Array): void {
    const { high, low } = this.form;
    const layers = this.#all.length;
    for (const [at, place] of classes.entries()) {
      const name = pageClasses[place];
      if (name === high || name === low) this.#all[at % layers]!++;
      if (name === high) this.#high[at % layers]!++;
    }
  }
}

import { type Step, Want } from './device/device.js';
import type { SeenPages } from './kv/sparse-prefill.js';

/** Collects a step's entries into the columns that a lane takes. */
export class StepBuilder {
  readonly #slots: number[] = [];
  readonly #counts: number[] = [];
  readonly #wants: number[] = [];
  readonly #tokens: Int32Array[] = [];
  readonly #probes: number[] = [];
  readonly #sparsePages: number[] = [];
  readonly #isSeen: Uint8Array[] = [];
  #tokenCount = 0;

  prefill(slot: number, tokens: Int32Array, wants: number): void {
    this.#slots.push(slot);
    this.#counts.push(tokens.length);
    this.#wants.push(wants);
    this.#tokens.push(tokens);
    this.#tokenCount += tokens.length;
  }

  /** Goes on from the slot's last sampled token. */
  decode(slot: number): void {
    this.#slots.push(slot);
    this.#counts.push(0);
    this.#wants.push(Want.sample);
  }

  /** Looks at the attention of `count` rows of the last entry, from `row` on. */
  probe(row: number, count: number): void {
    this.#probes.push(this.#slots.length - 1, row, count);
  }

  /** The rows of the last entry attend to some of these pages only. */
  see({ pages, isSeen }: SeenPages): void {
    this.#sparsePages.push(this.#slots.length - 1, pages);
    this.#isSeen.push(isSeen);
  }

  build(): Step {
    const tokens = new Int32Array(this.#tokenCount);
    let at = 0;
    for (const part of this.#tokens) {
      tokens.set(part, at);
      at += part.length;
    }
    return {
      slots: Int32Array.from(this.#slots),
      counts: Int32Array.from(this.#counts),
      tokens,
      wants: Uint8Array.from(this.#wants),
      ...(this.#probes.length > 0 && { probes: Int32Array.from(this.#probes) }),
      ...(this.#isSeen.length > 0 && {
        sparse: { pages: Int32Array.from(this.#sparsePages), isSeen: joined(this.#isSeen) },
      }),
    };
  }
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

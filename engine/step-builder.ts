import { type Step, Want } from './device/device.js';

/** Collects a step's entries into the columns that a lane takes. */
export class StepBuilder {
  readonly #slots: number[] = [];
  readonly #counts: number[] = [];
  readonly #wants: number[] = [];
  readonly #tokens: Int32Array[] = [];
  readonly #probes: number[] = [];
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
    };
  }
}

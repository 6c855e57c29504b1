import type { Device } from '../device/device.js';
import { slotSampling } from '../sampling/params.js';
import type { Sequence } from '../sequence.js';

/** A device's slots: which of them are free, and who has the others. */
export class Slots {
  readonly #free: number[];
  readonly #holders = new Set<Sequence>();

  constructor(private readonly device: Device) {
    const { slots } = device.info;
    this.#free = Array.from({ length: slots }, (_, i) => slots - 1 - i);
  }

  get open(): number {
    return this.device.info.slots - this.#free.length;
  }

  get holders(): ReadonlySet<Sequence> {
    return this.#holders;
  }

  get hasFree(): boolean {
    return this.#free.length > 0;
  }

  /** Gives the sequence a free slot, which is empty. */
  give(sequence: Sequence): void {
    const slot = this.#free.at(-1)!;
    const { seed, stops, tokens, promptTokens } = sequence;
    const { request, grammar, embeddedPrompt } = sequence.request;
    const sampling = slotSampling(request, seed, stops.tokenIds, tokens.view(promptTokens), grammar);
    this.device.openSlot(slot, sampling, embeddedPrompt?.embedded);
    this.#free.pop();
    this.#holders.add(sequence);
    sequence.slot = slot;
  }

  /** Takes its slot back, and frees what that holds. */
  take(sequence: Sequence): void {
    this.device.closeSlot(sequence.slot);
    this.#free.push(sequence.slot);
    this.#holders.delete(sequence);
    sequence.slot = -1;
  }
}

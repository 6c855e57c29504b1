import type { SwappedKv } from './device.js';

/** The handles of a device's swapped KV, which native knows by id. One that nobody holds any more is dropped too. */
export class SwappedHandles {
  #ids = new WeakMap<SwappedKv, number>();
  readonly #collected: FinalizationRegistry<number>;

  constructor(private readonly drop: (id: number) => void) {
    this.#collected = new FinalizationRegistry(drop);
  }

  add({ id, tokens, bytes }: { id: number; tokens: number; bytes: number }): SwappedKv {
    const handle: SwappedKv = {
      tokens,
      bytes,
      release: () => {
        if (!this.#ids.has(handle)) return;
        this.drop(id);
        this.forget(handle);
      },
    };
    this.#ids.set(handle, id);
    this.#collected.register(handle, id, handle);
    return handle;
  }

  idOf(handle: SwappedKv): number {
    const id = this.#ids.get(handle);
    if (id === undefined) throw new Error('this swapped KV was released, or belongs to another device');
    return id;
  }

  /** Native has freed what the handle stood for. */
  forget(handle: SwappedKv): void {
    this.#ids.delete(handle);
    this.#collected.unregister(handle);
  }

  /** Native has freed, or is about to free, everything. */
  forgetAll(): void {
    this.#ids = new WeakMap();
  }
}

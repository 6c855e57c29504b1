import { closeSync, openSync, writeSync } from 'node:fs';

const chunkBytes = 8 * 1024 * 1024;

/** Collects small writes into large ones. The caller closes it. */
export class ChunkedFile {
  readonly #handle: number;
  readonly #chunk = new Uint8Array(chunkBytes);
  #filled = 0;
  #written = 0;

  constructor(path: string) {
    this.#handle = openSync(path, 'w');
  }

  get position(): number {
    return this.#written + this.#filled;
  }

  write(bytes: Uint8Array): void {
    if (bytes.length > chunkBytes - this.#filled) this.#flush();
    if (bytes.length > chunkBytes) {
      this.#writeAll(bytes);
      return;
    }
    this.#chunk.set(bytes, this.#filled);
    this.#filled += bytes.length;
  }

  /** Zeros up to a multiple of `alignment`. */
  align(alignment: number): void {
    const rest = this.position % alignment;
    if (rest !== 0) this.write(new Uint8Array(alignment - rest));
  }

  close(): void {
    try {
      this.#flush();
    } finally {
      closeSync(this.#handle);
    }
  }

  #flush(): void {
    const filled = this.#filled;
    this.#filled = 0;
    this.#writeAll(this.#chunk.subarray(0, filled));
  }

  #writeAll(bytes: Uint8Array): void {
    for (let done = 0; done < bytes.length; ) {
      done += writeSync(this.#handle, bytes, done, bytes.length - done);
    }
    this.#written += bytes.length;
  }
}

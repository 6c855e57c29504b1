import type { ImageProcessing } from '../../engine/index.js';
import { WorkerCalls } from '../worker-calls.js';
import type { ImageSource } from './image-source.js';
import type { ImageLimits, ReadImage } from './read-image.js';

/** What the thread that reads images is started with. */
export interface ReaderData {
  readonly processing: ImageProcessing;
  readonly limits: ImageLimits;
}

export interface ReadCall {
  /** Absent: it is only asked whether it can read any. */
  readonly source?: ImageSource;
}

/**
 * Reads images in a thread of their own. Those of one request are read before those of the next: so what is decoded and is
 * not at the engine yet is never more than one request may have.
 */
export class ImageReader {
  readonly #worker: WorkerCalls<ReadCall>;
  #last: Promise<unknown> = Promise.resolve();

  constructor(data: ReaderData) {
    this.#worker = new WorkerCalls(new URL('./worker.js', import.meta.url), data);
    this.#worker.warm();
  }

  /** Rejects with the `ApiError` that every image will get. */
  async check(): Promise<void> {
    await this.#worker.call({});
  }

  /**
   * In the order of the sources. Rejects with `ApiError`: 400, which names the first that is wrong, or 500 where the decoder
   * is not there.
   */
  read(sources: readonly ImageSource[]): Promise<ReadImage[]> {
    const images = this.#last.then(async () => {
      const read: ReadImage[] = [];
      for (const source of sources) read.push(await this.#worker.call<ReadImage>({ source }));
      return read;
    });
    this.#last = images.catch(() => undefined);
    return images;
  }

  close(): Promise<void> {
    return this.#worker.close();
  }
}

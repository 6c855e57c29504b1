import type { VisionEncoder } from '../device/native.js';
import { EngineError } from '../errors.js';
import type { ImageProcessing } from '../model/image-processing.js';
import type { VisionSpec } from '../model/model-spec.js';
import type { ImageStats, PromptImage } from '../types.js';
import type { PlacedImage } from './embed-prompt.js';
import { normalizeTile } from './normalize.js';

export interface ImageStoreOptions {
  readonly encoder: Pick<VisionEncoder, 'encode' | 'threads' | 'weightBytes' | 'close'>;
  readonly vision: VisionSpec;
  readonly processing: ImageProcessing;
  /** Width of the decoder, which is that of the rows. */
  readonly hidden: number;
  /** What may be held of images at once: pixels that wait for the encoder, and rows. */
  readonly capacityBytes: number;
}

/** An image that requests use, or have used lately. */
export interface StoredImage {
  /**
   * Below 0, and of no other image as long as the store lives: it stands for the image's tokens wherever sequences are
   * compared. Two images have the same one only where all of their pixels are the same.
   */
  readonly key: number;
  /** [tiles * tokensPerTile, hidden]. Rejects with `EngineError`; undefined where nobody waited for them any more. */
  readonly rows: Promise<Float32Array | undefined>;
}

interface Entry extends StoredImage {
  readonly hash: string;
  /** Of the pixels until they are encoded, then of the rows. */
  bytes: number;
  /** Requests and sessions that it belongs to. */
  users: number;
}

/** Of the memory for images, the share that sessions may hold: others have the rest, however long those last. */
const sessionShare = 0.5;

/**
 * The images of the requests, as rows for the decoder. They are encoded one after another in the order in which
 * they came, and each once for all requests that show it: a chat sends its images again with every turn. Those that
 * no request uses stay until their memory is wanted; then the least recently used go first.
 */
export class ImageStore {
  readonly #options: ImageStoreOptions;
  /** By hash, the least recently used first. */
  readonly #images = new Map<string, Entry>();
  #bytes = 0;
  /** Of the rows of images that sessions hold, each counted for each. */
  #sessionBytes = 0;
  #nextKey = -1;
  #encoded = 0;
  #reused = 0;
  #encodeMs = 0;
  /** Settles when what came so far is encoded. */
  #encoding: Promise<unknown> = Promise.resolve();
  #isClosed = false;

  constructor(options: ImageStoreOptions) {
    this.#options = options;
  }

  /** Of the encoder. */
  get weightBytes(): number {
    return this.#options.encoder.weightBytes;
  }

  stats(): ImageStats {
    return {
      encoded: this.#encoded,
      reused: this.#reused,
      encodeSeconds: this.#encodeMs / 1000,
      heldBytes: this.#bytes,
    };
  }

  /**
   * A request of so many prompt tokens, or its session (`isForSession`), uses these images until `release`, also where their
   * rows could not be made. Throws `EngineError`, with nothing changed, where they are not what the encoder reads, or do not
   * fit beside those of others.
   */
  use(images: readonly PromptImage[], promptTokens: number, isForSession = false): StoredImage[] {
    for (const image of images) this.#check(image, promptTokens);
    const sessionBytes = isForSession ? images.reduce((sum, image) => sum + this.#rowBytes(image), 0) : 0;
    this.#checkSessions(sessionBytes);
    const fresh = new Map(
      images.flatMap((image) => (this.#images.has(image.hash) ? [] : [[image.hash, image]])),
    );
    // Those that are there are not evicted for those that are not.
    const known = images.flatMap(({ hash }) => this.#images.get(hash) ?? []);
    for (const entry of known) this.#addUser(entry);
    try {
      this.#makeRoom([...fresh.values()].reduce((sum, image) => sum + this.#mostBytes(image), 0));
    } catch (error) {
      for (const entry of known) entry.users--;
      throw error;
    }
    this.#sessionBytes += sessionBytes;
    this.#reused += images.length - fresh.size;
    return images.map((image) => {
      const entry = this.#images.get(image.hash);
      if (!entry) return this.#add(image);
      if (fresh.has(image.hash)) this.#addUser(entry);
      return entry;
    });
  }

  /** The request, or session, that used these images has ended. */
  release(images: readonly PlacedImage[], isForSession = false): void {
    for (const { image, positions } of images) {
      (image as Entry).users--;
      if (isForSession) this.#sessionBytes -= this.#rowBytes({ positions });
    }
  }

  /** Encodes and holds nothing more; resolves when the encoder is free. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#encoding;
    this.#options.encoder.close();
    for (const entry of this.#images.values()) this.#drop(entry);
  }

  #check({ pixels, positions }: PromptImage, promptTokens: number): void {
    const { imageSize, tokensPerTile } = this.#options.vision;
    const tiles = positions.length;
    const expected = tiles * 3 * imageSize ** 2;
    if (tiles === 0 || pixels.length !== expected) {
      throw new EngineError(
        'invalid_request',
        `An image has ${pixels.length} bytes of pixels; ${tiles} tiles of ${imageSize} x ${imageSize} have ${expected}.`,
      );
    }
    if (positions.at(-1)! + tokensPerTile > promptTokens) {
      throw new EngineError('invalid_request', `An image ends behind the prompt of ${promptTokens} tokens.`);
    }
  }

  #addUser(entry: Entry): void {
    entry.users++;
    this.#images.delete(entry.hash);
    this.#images.set(entry.hash, entry);
  }

  #checkSessions(bytes: number): void {
    const most = sessionShare * this.#options.capacityBytes;
    if (this.#sessionBytes + bytes <= most) return;
    throw new EngineError(
      'queue_full',
      `The images of sessions take ${this.#sessionBytes + bytes} bytes with these, and may take ${most}, ` +
        `${100 * sessionShare}% of --image-memory. End a session, or send the conversation without one.`,
      { retryAfterSeconds: 1 },
    );
  }

  #rowBytes({ positions }: Pick<PromptImage, 'positions'>): number {
    const { vision, hidden } = this.#options;
    return positions.length * vision.tokensPerTile * hidden * Float32Array.BYTES_PER_ELEMENT;
  }

  #mostBytes(image: PromptImage): number {
    return Math.max(image.pixels.byteLength, this.#rowBytes(image));
  }

  #makeRoom(bytes: number): void {
    const { capacityBytes } = this.#options;
    if (bytes > capacityBytes) {
      throw new EngineError(
        'invalid_request',
        `The images of the request take ${bytes} bytes, and ${capacityBytes} are there for all (--image-memory). ` +
          "Send fewer, or with 'detail': 'low'.",
        { part: 'prompt' },
      );
    }
    for (const entry of this.#images.values()) {
      if (this.#bytes + bytes <= capacityBytes) return;
      if (entry.users === 0) this.#drop(entry);
    }
    if (this.#bytes + bytes <= capacityBytes) return;
    throw new EngineError('queue_full', 'Too many images are waiting (--image-memory).', {
      retryAfterSeconds: 1,
    });
  }

  #drop(entry: Entry): void {
    // It may have been dropped before, and be another one's by now.
    if (this.#images.get(entry.hash) !== entry) return;
    this.#images.delete(entry.hash);
    this.#bytes -= entry.bytes;
  }

  #add(image: PromptImage): Entry {
    const bytes = this.#mostBytes(image);
    const rows = this.#encoding.then(() => this.#encode(entry, image));
    const entry: Entry = { hash: image.hash, key: this.#nextKey--, bytes, users: 1, rows };
    this.#encoding = rows.catch(() => undefined);
    this.#images.set(image.hash, entry);
    this.#bytes += bytes;
    return entry;
  }

  async #encode(entry: Entry, image: PromptImage): Promise<Float32Array | undefined> {
    const { encoder, vision, processing, hidden } = this.#options;
    const began = performance.now();
    const tileRows = vision.tokensPerTile * hidden;
    const rows = new Float32Array(image.positions.length * tileRows);
    const tiles = image.positions.length;
    const tilePixels = 3 * vision.imageSize ** 2;
    // As many as it computes at a time, so that an image that nobody wants any more is given up soon.
    const batch = new Float32Array(Math.min(tiles, encoder.threads) * tilePixels);
    try {
      for (let first = 0; first < tiles; first += encoder.threads) {
        if (this.#isClosed || entry.users === 0) {
          this.#drop(entry);
          return undefined;
        }
        const count = Math.min(encoder.threads, tiles - first);
        for (let tile = 0; tile < count; tile++) {
          const begin = (first + tile) * tilePixels;
          const out = batch.subarray(tile * tilePixels, (tile + 1) * tilePixels);
          normalizeTile(image.pixels.subarray(begin, begin + tilePixels), processing, out);
        }
        rows.set(await encoder.encode(batch.subarray(0, count * tilePixels), count), first * tileRows);
      }
    } catch (error) {
      this.#drop(entry);
      throw new EngineError('engine_failed', `An image could not be encoded: ${(error as Error).message}.`);
    }
    this.#encodeMs += performance.now() - began;
    this.#encoded++;
    const isHeld = this.#images.get(entry.hash) === entry;
    if (isHeld) this.#bytes += rows.byteLength - entry.bytes;
    entry.bytes = rows.byteLength;
    return rows;
  }
}

import { readImageProcessing } from '../../engine/prompts.js';
import { BoundedQueue, type QueueLimits } from '../bounded-queue.js';
import { GrammarCompiler } from '../grammar/grammar-compiler.js';
import { type ExpandedPrompt, expandPrompt } from '../images/expand-prompt.js';
import { ImageReader } from '../images/image-reader.js';
import type { FoundItems } from '../responses/found-items.js';
import { WorkerCalls } from '../worker-calls.js';
import { defaultMaxTokens, type PrepareContext } from './context.js';
import {
  type ContextSource,
  openContext,
  type Preparation,
  type PreparationResult,
  type PrepareCall,
  prepareWith,
} from './preparations.js';
import type { PreparedPrompt, PromptImages } from './prepared.js';
import { whileWaitedFor } from './while-waited-for.js';

/** Bodies from this size on are prepared in a thread of their own: below it the hand-over costs more than the work. */
const smallBodyBytes = 32 * 1024;

export interface PrepareOptions {
  /** What a response that continues others was found to refer to. */
  readonly found?: FoundItems | undefined;
  /** Aborted when the client leaves. */
  readonly left?: AbortSignal | undefined;
  /** When the body came, by `performance.now()`; now if absent. */
  readonly since?: number;
}

/**
 * Turns bodies into requests: small ones at once, large ones in a worker thread, so that parsing 5 MB or tokenizing a
 * 100k-token prompt never holds up the thread that forwards tokens.
 */
export class Preparer {
  readonly #worker: WorkerCalls<PrepareCall>;
  readonly #bodyQueue: BoundedQueue;
  readonly #imageQueue: BoundedQueue;

  private constructor(
    private readonly context: PrepareContext,
    source: ContextSource,
    private readonly grammars: GrammarCompiler,
    private readonly images: ImageReader | undefined,
    limits: QueueLimits,
  ) {
    this.#bodyQueue = new BoundedQueue('large bodies', limits);
    this.#imageQueue = new BoundedQueue('images', limits);
    this.#worker = new WorkerCalls(new URL('./worker.js', import.meta.url), source);
    this.#worker.warm();
    this.grammars.warm();
  }

  /** `limits`: of what may wait for each of the threads that take long. */
  static async open(source: ContextSource, limits: QueueLimits): Promise<Preparer> {
    const context = await openContext(source);
    const { folder, vision, maxImagePixels } = source;
    const images =
      vision &&
      new ImageReader({
        processing: await readImageProcessing(folder, vision),
        limits: { maxPixels: maxImagePixels },
      });
    const grammars = new GrammarCompiler({ maxQueue: limits.most, queueBytes: limits.bytes });
    return new Preparer(context, source, grammars, images, limits);
  }

  /**
   * Rejects with the `ApiError` that says what is wrong with the body, that too many wait already, or that nobody waits for it
   * any more: its client has left, or its deadline has passed.
   */
  async prepare<K extends Preparation>(
    kind: K,
    body: Uint8Array,
    { found, left, since = performance.now() }: PrepareOptions = {},
  ): Promise<PreparationResult[K]> {
    const call = { kind, body, found };
    const bytes = body.byteLength + (found?.bytes ?? 0);
    const isSmall = bytes < smallBodyBytes;
    const prepared = isSmall
      ? (prepareWith(this.context, call) as PreparationResult[K])
      : await this.#bodyQueue.run(bytes, () => this.#worker.call<PreparationResult[K]>(call, left));
    const deadlineMs = promptsIn(prepared)[0]?.request.deadlineMs;
    const whole = await whileWaitedFor({ since, deadlineMs, left }, async (waitedFor) =>
      this.#withGrammars(await this.#withImages(prepared), waitedFor),
    );
    if (deadlineMs === undefined) return whole;
    const passedMs = performance.now() - since;
    return withPrompts(whole, async (prompt) => ({ ...prompt, request: { ...prompt.request, passedMs } }));
  }

  /** Rejects with the `ApiError` that every image will get, where the model reads images and this installation cannot. */
  async checkImages(): Promise<void> {
    await this.images?.check();
  }

  async close(): Promise<void> {
    await Promise.all([this.#worker.close(), this.grammars.close(), this.images?.close()]);
  }

  /** Reads the images of prompts, which become as long as they are with these. */
  async #withImages<R extends PreparationResult[Preparation]>(result: R): Promise<R> {
    if ('tokens' in result && result.images) {
      return { ...result, tokens: (await this.#expand(result.tokens, result.images)).prompt };
    }
    return withPrompts(result, async ({ images, isUnlimited, ...own }) => {
      if (!images) return own;
      const expanded = await this.#expand(own.request.prompt, images);
      const most = defaultMaxTokens(this.context, expanded.prompt.length);
      const maxTokens = isUnlimited ? Math.min(own.request.maxTokens, most) : own.request.maxTokens;
      return { ...own, request: { ...own.request, ...expanded, maxTokens } };
    });
  }

  async #expand(prompt: Int32Array, { sources, positions }: PromptImages): Promise<ExpandedPrompt> {
    // Where there is markup to find their places by, there is a reader.
    const bytes = sources.reduce((sum, source) => sum + source.bytes.byteLength, 0);
    const images = await this.#imageQueue.run(bytes, () => this.images!.read(sources));
    return expandPrompt(prompt, positions, images, this.context.markup!);
  }

  /** Compiles what answers have to follow. */
  #withGrammars<R extends PreparationResult[Preparation]>(result: R, waitedFor: AbortSignal): Promise<R> {
    return withPrompts(result, async ({ grammar, ...prompt }) => {
      if (!grammar) return prompt;
      const compiled = await this.grammars.compile(grammar, waitedFor);
      return { ...prompt, request: { ...prompt.request, grammar: compiled } };
    });
  }
}

function promptsIn(result: PreparationResult[Preparation]): readonly PreparedPrompt[] {
  if ('prepared' in result) return promptsIn(result.prepared);
  return 'prompts' in result ? result.prompts : [];
}

/** The same with other prompts in it, if there are any. */
async function withPrompts<R extends PreparationResult[Preparation]>(
  result: R,
  change: (prompt: PreparedPrompt) => Promise<PreparedPrompt>,
): Promise<R> {
  if ('prepared' in result) return { ...result, prepared: await withPrompts(result.prepared, change) };
  if (!('prompts' in result)) return result;
  return { ...result, prompts: await Promise.all(result.prompts.map(change)) };
}

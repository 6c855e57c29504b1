import { readImageProcessing } from '../../engine/prompts.js';
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

/** Bodies from this size on are prepared in a thread of their own: below it the hand-over costs more than the work. */
const smallBodyBytes = 32 * 1024;

/**
 * Turns bodies into requests: small ones at once, large ones in a worker thread, so that parsing 5 MB or tokenizing a
 * 100k-token prompt never holds up the thread that forwards tokens.
 */
export class Preparer {
  readonly #worker: WorkerCalls<PrepareCall>;

  private constructor(
    private readonly context: PrepareContext,
    source: ContextSource,
    private readonly grammars: GrammarCompiler,
    private readonly images: ImageReader | undefined,
  ) {
    this.#worker = new WorkerCalls(new URL('./worker.js', import.meta.url), source);
    this.#worker.warm();
    this.grammars.warm();
  }

  static async open(source: ContextSource): Promise<Preparer> {
    const context = await openContext(source);
    const { folder, vision, maxImagePixels } = source;
    const images =
      vision &&
      new ImageReader({
        processing: await readImageProcessing(folder, vision),
        limits: { maxPixels: maxImagePixels },
      });
    return new Preparer(context, source, new GrammarCompiler(), images);
  }

  /** Rejects with the `ApiError` that says what is wrong with the body. */
  async prepare<K extends Preparation>(
    kind: K,
    body: Uint8Array,
    found?: FoundItems,
  ): Promise<PreparationResult[K]> {
    const call = { kind, body, found };
    const isSmall = body.byteLength + (found?.bytes ?? 0) < smallBodyBytes;
    const prepared = isSmall
      ? (prepareWith(this.context, call) as PreparationResult[K])
      : await this.#worker.call<PreparationResult[K]>(call);
    return this.#withGrammars(await this.#withImages(prepared));
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
    if ('prepared' in result) return { ...result, prepared: await this.#withImages(result.prepared) };
    if ('tokens' in result && result.images) {
      return { ...result, tokens: (await this.#expand(result.tokens, result.images)).prompt };
    }
    if (!('prompts' in result) || !result.prompts.some(({ images }) => images)) return result;
    const prompts = await Promise.all(
      result.prompts.map(async ({ images, isUnlimited, ...own }): Promise<PreparedPrompt> => {
        if (!images) return own;
        const expanded = await this.#expand(own.request.prompt, images);
        const most = defaultMaxTokens(this.context, expanded.prompt.length);
        const maxTokens = isUnlimited ? Math.min(own.request.maxTokens, most) : own.request.maxTokens;
        return { ...own, request: { ...own.request, ...expanded, maxTokens } };
      }),
    );
    return { ...result, prompts };
  }

  async #expand(prompt: Int32Array, { sources, positions }: PromptImages): Promise<ExpandedPrompt> {
    // Where there is markup to find their places by, there is a reader.
    const images = await this.images!.read(sources);
    return expandPrompt(prompt, positions, images, this.context.markup!);
  }

  /** Compiles what answers have to follow. */
  async #withGrammars<R extends PreparationResult[Preparation]>(result: R): Promise<R> {
    if ('prepared' in result) return { ...result, prepared: await this.#withGrammars(result.prepared) };
    if (!('prompts' in result) || !result.prompts.some(({ grammar }) => grammar)) return result;
    const prompts = await Promise.all(
      result.prompts.map(async ({ grammar, ...prompt }): Promise<PreparedPrompt> => {
        if (!grammar) return prompt;
        return { ...prompt, request: { ...prompt.request, grammar: await this.grammars.compile(grammar) } };
      }),
    );
    return { ...result, prompts };
  }
}

/** What the rest of the house knows of tokenizers and chat templates; `tokenizer.ts` and `chat-template.ts` implement it. */

export interface EncodeOptions {
  /**
   * Recognize special tokens that are written in the text (`<|im_start|>`), as a rendered chat template needs; a user's plain
   * text must not be able to forge them.
   */
  readonly special: boolean;
  /** Apply the post-processor (bos, where the tokenizer adds one). */
  readonly addBos: boolean;
  /**
   * `EngineError('context_length_exceeded')` as soon as a text turns out to have many times more ids than this: counting them
   * all may take seconds.
   */
  readonly contextLength?: number;
}

export interface Tokenizer {
  /** Ids are below this. */
  readonly vocabSize: number;
  /** Ids of a text. */
  encode(text: string, options: EncodeOptions): Int32Array;
  decode(ids: ArrayLike<number>, options: { skipSpecial: boolean }): string;
  /** The bytes a token stands for in the middle of a text; special tokens give their content. */
  tokenBytes(id: number): Uint8Array;
  isSpecial(id: number): boolean;
  /**
   * Incremental decoding. All `push` results and `end` together equal `decode` of the whole, skipping specials but those
   * in `shown`; or what `decode` has more with them, where their text goes on behind that of other ids, or behind any text.
   */
  stream(shown?: ReadonlySet<number> | 'all', behind?: Iterable<number> | 'text'): TokenStream;
}

export interface TokenStream {
  /** The text that has become certain with this token; '' while a code point is unfinished. */
  push(id: number): string;
  /** What is left: an unfinished code point shows as U+FFFD. */
  end(): string;
}

export interface ChatMessage {
  readonly role: string;
  readonly content: string | null | readonly unknown[];
  readonly [key: string]: unknown;
}

export interface ChatTemplate {
  /** Throws `EngineError('invalid_request')` with the template's own message (`raise_exception`) or its fault. */
  render(options: {
    messages: readonly ChatMessage[];
    tools?: readonly unknown[];
    addGenerationPrompt: boolean;
    /** `chat_template_kwargs`: further variables, as in vLLM. */
    variables?: Readonly<Record<string, unknown>>;
  }): string;
}

/** From `generation_config.json`; absent fields leave the server's defaults. */
export interface GenerationDefaults {
  readonly eosTokenIds: readonly number[];
  readonly temperature?: number;
  readonly topP?: number;
  readonly topK?: number;
  readonly minP?: number;
  readonly repetitionPenalty?: number;
  readonly maxNewTokens?: number;
}

import type { GenerateRequest, GrammarSource } from '../../engine/index.js';
import type { Echo } from '../echo.js';
import type { ImageSource } from '../images/image-source.js';
import type { PartNames } from '../openai/errors.js';
import type { ToolCallFormatName } from '../tools/tool-call-format.js';

/** A body that has become requests for the engine. Crosses threads, so it is plain data. */
export interface Prepared {
  readonly kind: 'chat' | 'completion';
  readonly stream: boolean;
  readonly includeUsage: boolean;
  /** Choices of each prompt; with `best_of` more are generated than shown. */
  readonly choices: number;
  /** Logprobs the client wants: -1 none, else how many of the most likely. */
  readonly logprobs: number;
  readonly prompts: readonly PreparedPrompt[];
}

/** Images that are read before the request goes to the engine, and where in the prompt they go: one token for each. */
export interface PromptImages {
  readonly sources: readonly ImageSource[];
  readonly positions: readonly number[];
}

export interface PreparedPrompt {
  /** All but the id, which the server gives. */
  readonly request: Omit<GenerateRequest, 'id'>;
  /** For what the engine refuses of it. */
  readonly partNames: PartNames;
  readonly images?: PromptImages;
  /** Whether the answer may be as long as the context allows, since nobody said how long. */
  readonly isUnlimited?: boolean;
  /** What the answers have to follow; it is compiled before the request goes to the engine. */
  readonly grammar?: GrammarSource;
  /** Where the prompt is to be shown too. */
  readonly echo?: Echo;
  /** Where the answer may call tools. */
  readonly toolCalls?: ToolCallReading;
}

/** How the calls of an answer are told from its text. */
export interface ToolCallReading {
  readonly format: ToolCallFormatName;
  /** Of the tools there are. */
  readonly names: readonly string[];
  /** With `parallel_tool_calls: false`. */
  readonly single: boolean;
  /** Where a call is required, so that the grammar has nothing else. */
  readonly callsOnly?: boolean;
}

export interface PreparedTokens {
  readonly images?: PromptImages;
  readonly tokens: Int32Array;
}

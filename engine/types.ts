import type { PressureLevel } from '../config/kv-pressure.js';
import type { EngineSettings } from '../config/schema.js';
import type { DeviceInfo, HeldClass, PrecisionClass } from './device/device.js';
import type { EngineError } from './errors.js';
import type { CompiledGrammar } from './grammar/compile.js';
import type { LayerPages } from './kv/page-counts.js';
import type { ModelSpec } from './model/model-spec.js';
import type { Explanation } from './scheduler/policy.js';

/** How tokens are chosen; defaults and bounds are in `sampling/params.ts`. */
export interface SamplingParams {
  /** 0 means greedy. */
  readonly temperature: number;
  readonly topP: number;
  /** 0 means off. */
  readonly topK: number;
  readonly minP: number;
  readonly presencePenalty: number;
  readonly frequencyPenalty: number;
  /** 1 means off. */
  readonly repetitionPenalty: number;
  /** Absent: drawn at random when the request arrives. Choice i of `n` uses a seed derived from (seed, i). */
  readonly seed?: bigint;
  readonly logitBias: ReadonlyMap<number, number>;
}

/** An image of a prompt, cut into the tiles that the model's vision encoder reads. */
export interface PromptImage {
  /** SHA-256 of the pixels: images of the same hash are the same image. */
  readonly hash: string;
  /** [tiles, 3, imageSize, imageSize], red, green, blue; 0..255 */
  readonly pixels: Uint8Array;
  /** Where in the prompt the tokens of each tile begin, of which there are `tokensPerTile`; rising. */
  readonly positions: Int32Array;
}

export interface GenerateRequest {
  /** Unique among running requests; appears in logs. */
  readonly id: string;
  readonly prompt: Int32Array;
  /** In the order of the prompt; only where the model reads images. */
  readonly images?: readonly PromptImage[];
  /** Choices to generate from the one prompt, which is prefilled once. */
  readonly n: number;
  readonly sampling: SamplingParams;
  /** At least 0; 0 only scores the prompt (`echo` with `max_tokens: 0`). */
  readonly maxTokens: number;
  readonly minTokens: number;
  /** Strings that end a choice; they are not part of its text. They match across token borders. */
  readonly stop: readonly string[];
  /** Beside the model's own eos ids. */
  readonly stopTokenIds: readonly number[];
  readonly ignoreEos: boolean;
  /** Special tokens that are part of the text, as those are that begin a tool call; others never are. */
  readonly shownSpecialTokens?: readonly number[];
  /**
   * Whether the answer goes on with the text of the prompt. If not it is a text of its own, of which tokenizers that begin
   * texts with a space drop that; but none that follows a grammar, which counts it.
   */
  readonly continuesPrompt?: boolean;
  /** What every choice has to follow. Where it ends the choice ends, with one of the model's end tokens. */
  readonly grammar?: CompiledGrammar;
  /** -1: none; 0: the chosen token's; k: with the k most likely (at most 20). */
  readonly logprobs: number;
  readonly promptLogprobs: boolean;
  /** Whether the usage says what was done to the request's KV. */
  readonly reportsKv?: boolean;
  /** How far its KV may be squeezed when memory is short; as far as the engine does if absent. */
  readonly kvPressure?: PressureLevel;
  /**
   * Goes on where the last request of this session ended: its prompt comes behind all prompts and answers before it. Only
   * where sequences may be of any length.
   */
  readonly session?: string;
  /** Whether it is not the first request of its session: refused where the engine does not know the session (any more). */
  readonly goesOn?: boolean;
  /** Of a session: its prompt begins with what ends an answer, of which the model may have given the first token itself. */
  readonly endsAnswer?: boolean;
  /** Higher runs earlier. 0 is usual. */
  readonly priority: number;
  /** Milliseconds from arrival after which the request ends with `deadline_exceeded`. */
  readonly deadlineMs?: number;
  /** So many of them had passed already when the request was submitted. */
  readonly passedMs?: number;
}

export type FinishReason = 'stop' | 'length';

export interface TokenLogprob {
  readonly token: number;
  /** The token alone, decoded; a part of a code point shows as U+FFFD. `bytes` has the truth. */
  readonly text: string;
  readonly bytes: Uint8Array;
  /** Code points of the text before it: of the prompt, specials included, or of the answer. */
  readonly offset: number;
  /** ln p; NaN for a prompt's first token. */
  readonly logprob: number;
  readonly top: readonly { token: number; text: string; bytes: Uint8Array; logprob: number }[];
}

/**
 * What a request's listener receives, in order, per choice. Text is withheld while it could still become part of a
 * stop string or of an unfinished code point, so an event may bring tokens and no text.
 */
export type TokenEvent =
  | {
      readonly type: 'tokens';
      readonly choice: number;
      readonly text: string;
      readonly tokens: readonly number[];
      readonly logprobs?: readonly TokenLogprob[];
    }
  | { readonly type: 'prompt'; readonly promptLogprobs: readonly TokenLogprob[] }
  | {
      readonly type: 'finish';
      readonly choice: number;
      readonly reason: FinishReason;
      /** The stop string or the eos/stop token's id that ended the choice. */
      readonly stoppedBy?: string | number;
    }
  /** After the last choice's `finish`. */
  | { readonly type: 'done'; readonly usage: Usage }
  /** Ends the request instead of `done`. */
  | { readonly type: 'error'; readonly error: EngineError };

export interface Usage {
  readonly promptTokens: number;
  readonly cachedTokens: number;
  readonly completionTokens: number;
  /** Milliseconds from arrival until the request first ran. */
  readonly queueMs: number;
  readonly ttftMs: number;
  /** Where the request asked for it. */
  readonly kv?: KvUsage;
}

/** What the KV of a request's choices came to, each as it ended; what they share counts for each. */
export interface KvUsage {
  readonly tokens: number;
  /** Of these, those that were given up: of a sequence that is longer than its partitions. */
  readonly droppedTokens: number;
  /** And those whose pages lie in host memory, of which `bytes` has what is left of them in KV memory. */
  readonly farTokens: number;
  readonly bytes: number;
  /** Of the pages that were packed, by layer; empty where nothing was, or all of them alike. */
  readonly layers: readonly LayerPages[];
}

export interface EngineInfo {
  /** The name clients use: the folder's, or `--served-model-name`. */
  readonly model: string;
  readonly spec: ModelSpec;
  /** Prompt and output together, in tokens: the model's, or less if the KV memory holds less. */
  readonly contextLength: number;
  readonly eosTokenIds: readonly number[];
  readonly device: {
    kind: DeviceInfo['kind'];
    name: string;
    isa: string;
    units: number;
    /** What a person should know of how the device was chosen and shared. */
    notes: readonly string[];
  };
  readonly weights: string;
  /** Of all KV but the recent tokens and prompts that are being read, which are bf16 where this is a packed class or zip. */
  readonly kvPrecision: PrecisionClass | 'zip' | 'pack';
  readonly weightBytes: number;
  readonly kvBytes: number;
  /** Of one token in all layers, in that class; under zip at most. */
  readonly kvBytesPerToken: number;
}

/** Totals since start, and the state now; what `/metrics` shows. */
export interface EngineStats {
  readonly running: number;
  readonly waiting: number;
  readonly slotsOpen: number;
  readonly kvBlocksTotal: number;
  /** Held by running sequences or by the prefix cache; packed ones count as the memory that they take. */
  readonly kvBlocksUsed: number;
  readonly kvBlockBytes: number;
  /** Of the pages in use. */
  readonly kvHeldBytes: Readonly<Record<HeldClass, number>>;
  /** Blocks that were packed into the class of `--kv`. */
  readonly kvPackedBlocks: number;
  /** Tokens that endless sequences have given up. */
  readonly kvDroppedTokens: number;
  /** Pages that were packed, by layer; absent unless where a sequence looks decides how. */
  readonly kvPages?: readonly LayerPages[];
  /** In host memory, of sequences that gave way. */
  readonly kvSwappedBytes: number;
  /** In host memory, of far pages. */
  readonly kvFarBytes: number;
  readonly cache: CacheStats;
  /** Absent where the model reads no images. */
  readonly images?: ImageStats;
  readonly promptTokens: number;
  /** Tokens that steps have read into KV: prompts without what was cached, and what had to be computed anew. */
  readonly promptTokensRead: number;
  readonly generatedTokens: number;
  /** Sequences that gave way, and of these the ones whose KV was copied to host memory, and back. */
  readonly preemptions: number;
  readonly swapsOut: number;
  readonly swapsIn: number;
  readonly steps: { prefill: number; decode: number };
  /** Of the steps, those that read prompts and extended streams in one. */
  readonly mixedSteps: number;
  readonly laneBusySeconds: { prefill: number; decode: number };
  readonly laneUnits: { prefill: number; decode: number };
  /** Compute units times seconds that steps took, up to now: of those that read prompts, that extend streams, that do both. */
  readonly unitSeconds: { readonly prefill: number; readonly decode: number; readonly mixed: number };
  readonly repartitions: number;
  /** Time spent in JavaScript: planning steps and delivering their results. */
  readonly schedulerSeconds: number;
  /** Measured over foreseen time of each lane's steps, lately; absent where the policy asks no cost model. */
  readonly costModelErrorRatio?: { readonly prefill: number; readonly decode: number };
}

/** What of the settings of `--scheduler` can change while requests run. What is absent stays as it is. */
export type PolicyChange = Partial<
  Pick<EngineSettings, 'scheduler' | 'decodeSlack' | 'prefillShare' | 'tbtTargetMs' | 'ttftTargetMs'>
>;

/** Who shares the device how, and why. */
export interface SchedulerReport {
  readonly policy: string;
  readonly prefillOrder: string;
  /** Where the cost model's constants are from: a file of `tandem calibrate`, or a preset's name. */
  readonly constants: string;
  readonly units: number;
  readonly share: { prefill: number; decode: number };
  readonly running: number;
  readonly waiting: number;
  /** Of the last choice between ways to share the device; absent while there was none, and where nothing is compared. */
  readonly decision?: Explanation;
}

export interface CacheStats {
  readonly blocks: number;
  readonly hitTokens: number;
  readonly queriedTokens: number;
  readonly evictedBlocks: number;
}

export interface ImageStats {
  /** That went through the vision encoder, and those of requests for which that was done before. */
  readonly encoded: number;
  readonly reused: number;
  readonly encodeSeconds: number;
  /** Of pixels that wait, and of rows. */
  readonly heldBytes: number;
}

/**
 * Owns every request from arrival to its last token. Implemented by `engine.ts` (in the engine's thread) and by
 * `client.ts` (its proxy on the HTTP thread).
 */
export interface Engine {
  readonly info: EngineInfo;
  /** Settles only if the engine is lost: its host or its device failed, and every request it had was told. */
  readonly lost: Promise<EngineError>;
  /**
   * Queue a request. Events arrive asynchronously, batched per step: `onEvents` is called with all events that one
   * step produced for this request. Refusals also arrive as an `error` event, so there is one path. The pixels of the
   * request's images move to the engine.
   */
  submit(request: GenerateRequest, onEvents: (events: readonly TokenEvent[]) => void): void;
  /** End a request within one step; no further events. Unknown ids are ignored (it may have just finished). */
  cancel(id: string): void;
  /**
   * Stop delivering and decoding this request until `resume` (a reader that does not keep up). Its KV stays.
   */
  pause(id: string): void;
  resume(id: string): void;
  /** Nobody will go on with the session: forgets it, when its request has ended. */
  endSession(session: string): void;
  stats(): Promise<EngineStats>;
  /** The scheduler's state, and why the device is shared as it is. */
  explain(): Promise<SchedulerReport>;
  /** Shares the device in another way from the next decision on; what runs goes on, with the same tokens. */
  setPolicy(change: PolicyChange): Promise<void>;
  /** Refuse new requests; resolves when the running ones have ended, or after `graceMs` with the rest cancelled. */
  drain(graceMs: number): Promise<void>;
  close(): Promise<void>;
}

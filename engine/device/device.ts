import type { GrammarTables } from '../grammar/tables.js';
import type { ModelSpec } from '../model/model-spec.js';

/**
 * The one door to compute. A device runs two lanes at once, each on its own share of the compute units, over
 * one set of weights and one KV pool. `native.ts` implements it over the addon; the scheduler cannot tell one
 * implementation from another.
 */
export interface Device {
  readonly info: DeviceInfo;
  readonly prefill: Lane;
  readonly decode: Lane;
  readonly kv: KvPool;
  /**
   * Give the prefill lane this many compute units and the decode lane the rest, in the steps that are handed over from
   * now on. 0 or all of them is allowed: then one lane alone may run.
   */
  partition(prefillUnits: number): void;
  /** What the tokens stand for; needed before the first grammar. */
  setVocabulary(vocabulary: VocabularyBytes): void;
  /** A grammar for slots to follow. Throws if the vocabulary cannot write what it needs. */
  openGrammar(tables: GrammarTables): GrammarHandle;
  /** Slots that follow it are not disturbed. */
  closeGrammar(grammar: GrammarHandle): void;
  /**
   * Prepare a free slot for a sequence, some of whose tokens stand for rows of `embedded` (absent: none). Throws if the
   * slot is open.
   */
  openSlot(slot: number, sampling: SlotSampling, embedded?: readonly EmbeddedRows[]): void;
  /** Free the slot and its page references. Throws if a step or swap of the slot is in flight. */
  closeSlot(slot: number): void;
  /** Ends both lanes after their steps and swaps in flight and frees all native memory, swapped KV too. */
  close(): Promise<void>;
}

export type GrammarHandle = number;

/** The bytes of all tokens, one token after another. */
export interface VocabularyBytes {
  readonly bytes: Uint8Array;
  /** [tokens + 1] */
  readonly begins: Int32Array;
  /** Tokens that steer the model and are no text. */
  readonly special: Int32Array;
  /** Those that end an answer. */
  readonly endTokens: Int32Array;
}

export interface DeviceInfo {
  readonly kind: 'cpu' | 'cuda' | 'simulated';
  /** For people: the processor's or GPU's name. */
  readonly name: string;
  /** Instruction set or architecture the kernels were chosen for: amx, avx512, avx2, portable, sm_90a, ... */
  readonly isa: string;
  readonly units: number;
  /** Units of the prefill lane in each split that the device can make, rising; absent: any number of units. */
  readonly splits?: readonly number[];
  readonly weightBytes: number;
  readonly kvBytes: number;
  /** Slots that can be open at once. */
  readonly slots: number;
  /** Upper bound on the tokens of one step, over all its entries. */
  readonly maxStepTokens: number;
  readonly spec: ModelSpec;
}

/** The device does nothing more for this process; whoever wants it again starts anew in another. */
export class DeviceLostError extends Error {
  override readonly name = 'DeviceLostError';
}

/**
 * One step runs per lane, and one may wait to follow it. A step rejects with `DeviceLostError` where the device is gone
 * with it.
 */
export interface Lane {
  run(step: Step): Promise<StepResult>;
  /**
   * Has a step begin when the one that runs ends, without waiting for anybody here to learn of that: each of these slots
   * goes on with its last sampled token, which the running step may be about to sample. Units are those of the partition
   * as it is now. The slots have room for it already (`KvPool.reserve`). Absent: each step must be waited for.
   */
  follow?(slots: Int32Array): FollowingStep;
}

export interface FollowingStep {
  /** Null if it was withdrawn. Rejects as that of `run` does, and if the step before it has failed. */
  readonly result: Promise<StepResult | null>;
  /** Takes it back. False if it has begun. */
  withdraw(): boolean;
}

/** What a step's entry asks for beside extending the slot's KV cache. Bits, may be combined. */
export const Want = {
  nothing: 0,
  /** Sample one token from the logits of the entry's last position. */
  sample: 1,
  /** Log probability of each token of the entry given those before it (prompt scoring). */
  promptLogprobs: 2,
  /** The raw logits of the entry's last position (tests, `bench quality`). */
  logits: 4,
} as const;

/**
 * A step's plan in columns, one row per entry; a slot appears at most once. An entry of a prompt brings its tokens;
 * an entry that decodes brings none: native appends the slot's last sampled token.
 */
export interface Step {
  /** Slot of each entry. */
  readonly slots: Int32Array;
  /** Tokens each entry appends to its slot; 0 means "one, the slot's last sampled token". */
  readonly counts: Int32Array;
  /** All entries' tokens, one after another. */
  readonly tokens: Int32Array;
  /** `Want` bits of each entry. */
  readonly wants: Uint8Array;
  /**
   * Runs of rows whose attention is looked at: an entry, a row in it and a count (at most 128) of each, one after another.
   * Absent: none.
   */
  readonly probes?: Int32Array;
  /** Entries whose rows attend to some of the slot's first pages only. Absent: none. */
  readonly sparse?: SparseEntries;
}

/** In the order of the step's entries. */
export interface SparseEntries {
  /** An entry, and how many of the slot's first pages, all of them before its tokens, are told of, of each. */
  readonly pages: Int32Array;
  /** Whether its rows attend to a page: [layers, pages] of each, one after another. What comes behind these they all see. */
  readonly isSeen: Uint8Array;
}

/** Columns are in the order of the step's entries. */
export interface StepResult {
  /** Sampled token of each entry, -1 where none was asked for. */
  readonly tokens: Int32Array;
  /** ln p of the sampled token under the unmodified distribution; NaN where the slot wants no logprobs. */
  readonly logprobs: Float32Array;
  /** For entries whose slot wants them: ids and ln p of the most likely tokens, best first. */
  readonly topLogprobs: ReadonlyMap<number, TopLogprobs>;
  /** For entries with `Want.promptLogprobs`. The first value of a sequence (position 0) is NaN. */
  readonly promptLogprobs: ReadonlyMap<number, PromptLogprobs>;
  /** For entries with `Want.logits`: [vocab]. */
  readonly logits: ReadonlyMap<number, Float32Array>;
  /**
   * Of each of the step's probe runs: how much of its rows' attention falls on each page that the last of them sees, as a
   * mean over the heads and a sum over the rows, in units of 2^-24: [layers, pages]. A row's sum does not depend on the
   * step that it was computed in.
   */
  readonly saliency: readonly Uint32Array[];
  /** Time the lane was busy with this step, without queueing. */
  readonly seconds: number;
  /**
   * What it was spent on: one value for each of `operatorClasses`. Their sum is `seconds`. A device whose clock costs
   * something measures only some steps.
   */
  readonly opSeconds?: Float64Array;
}

/**
 * Kinds of operators in a step. `matmul`: all projections, the one to logits included. Attention is decode's for entries
 * that bring one token (or their last sampled one) and prefill's for those that bring more; where a step has both, they
 * are computed one after the other, so that each is timed by itself. `other`: embedding, norms, RoPE and appending to
 * the KV, sampling, log probabilities.
 */
export const operatorClasses = ['matmul', 'prefillAttention', 'decodeAttention', 'other'] as const;
export type OperatorClass = (typeof operatorClasses)[number];

export interface TopLogprobs {
  readonly tokens: Int32Array;
  readonly logprobs: Float32Array;
}

/**
 * One value per token of the entry: ln p(token | all before it). `next*` describe the position *after* each token:
 * row i holds the `k` best candidates for what follows token i, so that row i is aligned with token i + 1.
 */
export interface PromptLogprobs {
  readonly logprobs: Float32Array;
  /** Candidates per position; the slot's `logprobs` count. */
  readonly k: number;
  /** [count, k] */
  readonly nextTokens: Int32Array;
  /** [count, k] */
  readonly nextLogprobs: Float32Array;
}

/** How native chooses a slot's tokens. Everything is validated before it gets here. */
export interface SlotSampling {
  /** 0 means greedy. */
  readonly temperature: number;
  /** 1 means off. */
  readonly topP: number;
  /** 0 means off. */
  readonly topK: number;
  /** 0 means off. */
  readonly minP: number;
  readonly presencePenalty: number;
  readonly frequencyPenalty: number;
  /** 1 means off. */
  readonly repetitionPenalty: number;
  /** Token t's draw depends on (seed, position of t) alone, so pre-emption and batching cannot change it. */
  readonly seed: bigint;
  readonly logitBias: ReadonlyMap<number, number>;
  /** Tokens that must not be sampled while fewer than `minTokens` were generated (the eos ids). */
  readonly minTokens: number;
  readonly suppressedBelowMin: Int32Array;
  /** -1: none; 0: the sampled token's; k: with the k most likely. At most 20. */
  readonly logprobs: number;
  /**
   * Tokens known before the slot's first step, needed only where a penalty is on: the prompt, and what was already
   * generated when a sequence starts anew after pre-emption.
   */
  readonly promptTokens: Int32Array;
  /** Also where a grammar is. */
  readonly generatedTokens: Int32Array;
  readonly grammar?: SlotGrammar;
}

/**
 * What neighbouring tokens of a sequence are to the model in place of the embeddings of their ids: rows of an image.
 * Runs of one sequence come in ascending order and do not overlap.
 */
export interface EmbeddedRows {
  /** Of the first, in the whole sequence, whatever of it is computed, cached, swapped or dropped. */
  readonly position: number;
  /** [rows, hidden] of the model; copied. */
  readonly values: Float32Array;
}

/** What all tokens of a slot follow: others cannot be sampled. Its end goes before `minTokens`. */
export interface SlotGrammar {
  readonly handle: GrammarHandle;
  /** Special tokens that are text in it. */
  readonly shownTokens: Int32Array;
}

/** Precision classes of KV pages, the largest first. */
const precisionClasses = ['bf16', 'int8', 'int4', 'int2'] as const;
export type PrecisionClass = (typeof precisionClasses)[number];
/** Classes that tokens are computed into. */
export type BornClass = 'bf16' | 'int8';
/**
 * What a page may become: of a class; `far`: an int4 page in host memory, of which KV memory has only what it takes to choose
 * it or pass it by; `none`: given up, so that nobody sees its tokens any more.
 */
export const pageClasses = [...precisionClasses, 'far', 'none'] as const;
export type PageClass = (typeof pageClasses)[number];
/** Pages that take KV memory. */
export type HeldClass = Exclude<PageClass, 'none'>;

/**
 * KV memory in *pages* of `pageTokens` tokens of one layer. A *block* is the pages of all layers for the same tokens;
 * policy counts in blocks and bytes. Calls are synchronous and may run while lanes are busy, except on slots of a
 * step or swap in flight, which must be left alone until its promise has settled: calls that would change one throw.
 */
export interface KvPool {
  readonly pageTokens: number;
  /** Of the pages that steps write where nothing else is said. Blocks are counted in it. */
  readonly precision: BornClass;
  /** Bytes of one block. */
  readonly blockBytes: number;
  /** The same of each class. */
  readonly classBlockBytes: Readonly<Record<HeldClass, number>>;
  readonly totalBlocks: number;
  /** Blocks that can be far at once: host memory is set aside for so many. */
  readonly farBlocks: number;
  /** Pages of `precision` that lie together and serve one class at a time. */
  readonly chunkPages: number;
  /** The same in blocks, rounded up. */
  readonly chunkBlocks: number;
  /** Blocks that could be reserved now. */
  freeBlocks(): number;
  /** Blocks that could become far now. */
  freeFarBlocks(): number;
  /**
   * Memory serves one class by chunks, so the pages that sequences leave behind lie scattered over chunks that others still use.
   * Moves pages together until `blocks` more blocks are free, but for those of slots that are in a step or a swap, or being
   * converted, for which fewer may come free. False, and nothing changed, if not so many lie scattered, or all that do are in use.
   */
  compact(blocks: number): boolean;
  /** Bytes of the pages in use, by class. */
  heldBytes(): Readonly<Record<HeldClass, number>>;
  /**
   * Make room so that the slot can hold `tokens` tokens in all, further blocks being of class `born`: the pool's if absent,
   * and none that is larger. False, and nothing changed, if memory is out. Also while a step of the slot is in flight, for
   * the one that follows.
   */
  reserve(slot: number, tokens: number, born?: BornClass): boolean;
  /** Tokens the slot's cache holds now. */
  length(slot: number): number;
  /**
   * Share the slot's full block number `index` (tokens [index*pageTokens, (index+1)*pageTokens)) as an immutable
   * cached block that outlives the slot. Returns its id; the caller owns one reference.
   */
  publish(slot: number, index: number): number;
  /**
   * Start an empty slot with these cached blocks; the slot takes its own references. `droppedTokens`: so many more its
   * sequence had, in whole pages, which it gave up before it left these blocks.
   */
  attach(slot: number, blocks: Int32Array, droppedTokens?: number): void;
  /** Give back the references that `publish` gave. */
  unpublish(blocks: Int32Array): void;
  /**
   * Let the empty slot `to` share the first `tokens` tokens of slot `from`: full blocks by reference, a partly
   * filled last block by copy. False, and nothing changed, if memory is out.
   */
  fork(from: number, to: number, tokens: number): boolean;
  /** Let the published block, of the same tokens in whatever class, take the place of the slot's full block `index`. */
  replace(slot: number, index: number, block: number): void;
  /**
   * Write the slot's full blocks [begin, end) again in other classes, on the thread that swaps: `classes` [end - begin,
   * layers] has each page's, as its place in `pageClasses`. Null, and nothing changed, if memory is out: for a while there
   * are both forms. Pages of their class or a smaller one, and packed ones, stay as they are, but that int4 ones become far
   * where host memory has room for them; `none` gives a page up.
   * Meanwhile the slot runs steps and grows on its old pages, but must not be closed, swapped or forked. The last block may
   * be partly filled, where none of its pages becomes a packed one; then the slot runs no steps meanwhile. Once resolved,
   * `finishConversion` lets it go on with the new pages, or `dropConversion` gives those back; neither while a step of the
   * slot is in flight. What a page becomes depends on its own bytes alone.
   */
  convert(slot: number, begin: number, end: number, classes: Uint8Array): Promise<void> | null;
  finishConversion(slot: number): void;
  dropConversion(slot: number): void;
  /**
   * Give up the slot's full blocks [begin, end). Those behind them take their numbers, and `length` counts them no more;
   * their tokens keep their positions. Only on a device that was opened with a selection: rows of its steps see the sink
   * pages, of the packed pages behind those the best ones, and the rest, with positions closed up over what they do not see.
   */
  drop(slot: number, begin: number, end: number): void;
  /**
   * Move the slot's KV to host memory. While it is copied, both lanes go on with other slots. Once resolved the slot's
   * length is 0 and its blocks are free (or its share of them: blocks in the prefix cache are copied and stay there);
   * rejects, with nothing changed, if the slot is not open or in flight.
   *
   * The slot stays open with its sampling state, and may be closed. After `swapIn` into the same open slot a decode
   * entry (count 0) goes on as if nothing had happened. A slot that was opened anew knows no last token: open it with
   * `promptTokens` and `generatedTokens`, and let its first entry bring what the KV does not hold yet, the last
   * sampled token. Both continue with the bits of the sequence that was never swapped. The one thing that is lost with
   * a closed slot is where a prompt that is scored in several steps (`Want.promptLogprobs`) had got to.
   */
  swapOut(slot: number): Promise<SwappedKv>;
  /**
   * Move it back into an open, empty slot, onto blocks of its own, and release the handle. Resolves to false, with
   * nothing changed, if the pool is short of blocks. Only the tokens' blocks are taken: reserve before the next step.
   */
  swapIn(slot: number, swapped: SwappedKv): Promise<boolean>;
}

/** A sequence's KV in host memory. Free after `release()`, after `swapIn` has taken it back, or when it is forgotten. */
export interface SwappedKv {
  readonly tokens: number;
  /** Host memory it takes until it is released. */
  readonly bytes: number;
  /** Throws while it is being swapped in. Later calls do nothing. */
  release(): void;
}

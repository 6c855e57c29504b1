import { mixedGrain, type PromptChunk, planChunks } from './chunks.js';
import type { Memory } from './memory.js';
import type { Room } from './room.js';
import { StepLoad } from './step-load.js';
import type { Chunk, StepPlan, Work } from './work.js';

/** What a step carries, of whom, and what that costs. */
export class StepComposer<W extends Work> {
  readonly #limitOf = (work: W): number => this.memory.stepLimit(work);

  constructor(
    private readonly memory: Memory<W>,
    private readonly room: Room<W>,
    /** Upper bound on the tokens of one step. */
    private readonly maxStepTokens: number,
  ) {}

  /** Parts of a step for which there is room, whoever must give way for it. */
  compose(ready: readonly W[], chunkTokens: number, decoding: readonly W[]): Chunk<W>[] {
    const chunks: Chunk<W>[] = [];
    for (const work of decoding) {
      // An earlier one may have taken this one's place.
      if (work.phase === 'decode' && this.room.make(work, 1))
        chunks.push({ work, tokens: 1, isPrompt: false });
    }
    const grain = decoding.length > 0 ? mixedGrain : this.memory.pageTokens;
    const budget = Math.min(chunkTokens, this.maxStepTokens - chunks.length);
    const hasRoom = (work: W, tokens: number) => work.phase === 'prefill' && this.room.make(work, tokens);
    for (const { work, tokens } of planChunks(ready, budget, grain, this.#limitOf, hasRoom)) {
      chunks.push({ work, tokens, isPrompt: true });
    }
    return chunks.filter(({ work }) => work.phase === 'decode' || work.phase === 'prefill');
  }

  /** The load of parts of prompts, and of one more token of sequences. */
  loadOf(prompts: readonly PromptChunk<W>[], decoding: readonly W[]): StepLoad {
    const load = new StepLoad();
    for (const { work, tokens } of prompts) {
      const endsPrompt = tokens === work.remainingTokens;
      load.addChunk(tokens, this.memory.contextOf(work), this.memory.kvBytesPerToken(work), endsPrompt);
    }
    for (const work of decoding) {
      load.addDecode(this.memory.contextOf(work) + 1, this.memory.kvBytesPerToken(work));
    }
    return load;
  }

  /** The load of a step. */
  loadOfChunks(chunks: readonly Chunk<W>[]): StepLoad {
    return this.loadOf(
      chunks.filter(({ isPrompt }) => isPrompt),
      chunks.filter(({ isPrompt }) => !isPrompt).map(({ work }) => work),
    );
  }

  /** The load of the first `tokens` tokens of these prompts, in their order, whether or not there is room for them. */
  loadOfPrompts(ready: readonly W[], tokens: number): StepLoad {
    return this.loadOf(planChunks(ready, tokens, mixedGrain, this.#limitOf), []);
  }

  /** The load of a decode step that waited for one of the same sequences, which is not counted yet. */
  loadOfFollowing({ chunks }: StepPlan<W>): StepLoad {
    const load = new StepLoad();
    for (const { work } of chunks) {
      load.addDecode(this.memory.contextOf(work) + 2, this.memory.kvBytesPerToken(work));
    }
    return load;
  }
}

/**
 * What one step computes, as far as its cost goes. The scheduler fills it while it plans, the cost model reads it; it
 * is the only thing that the two know of each other's subject.
 */
export class StepLoad {
  /** New prompt tokens: rows of the matmuls that come from prefill. */
  prefillTokens = 0;
  /** Pairs of a new prompt token and a token that it sees, itself included: the work of causal attention. */
  prefillPairs = 0;
  /** Bytes of cached K and V that the chunks' attention reads, at their true precision. */
  prefillKvBytes = 0;
  /** Sequences that get one token. */
  decodeSequences = 0;
  /** Tokens that these attend to, together. */
  decodeTokens = 0;
  /** Their bytes of K and V, at their true precision. */
  decodeKvBytes = 0;
  /** Rows of logits. */
  logitRows = 0;

  get isEmpty(): boolean {
    return this.prefillTokens === 0 && this.decodeSequences === 0;
  }

  /** Rows of the matmuls. */
  get rows(): number {
    return this.prefillTokens + this.decodeSequences;
  }

  /** `tokens` of a prompt behind `context` tokens that are cached. `endsPrompt`: its last row is sampled from. */
  addChunk(tokens: number, context: number, kvBytesPerToken: number, endsPrompt: boolean): void {
    this.prefillTokens += tokens;
    this.prefillPairs += tokens * context + (tokens * (tokens + 1)) / 2;
    this.prefillKvBytes += (context + tokens) * kvBytesPerToken;
    if (endsPrompt) this.logitRows++;
  }

  /** A sequence that attends to `context` tokens, its new one included. */
  addDecode(context: number, kvBytesPerToken: number): void {
    this.decodeSequences++;
    this.decodeTokens += context;
    this.decodeKvBytes += context * kvBytesPerToken;
    this.logitRows++;
  }

  clear(): void {
    this.prefillTokens = 0;
    this.prefillPairs = 0;
    this.prefillKvBytes = 0;
    this.decodeSequences = 0;
    this.decodeTokens = 0;
    this.decodeKvBytes = 0;
    this.logitRows = 0;
  }

  /** Both loads in one step. */
  static sum(a: StepLoad, b: StepLoad): StepLoad {
    const both = new StepLoad();
    both.prefillTokens = a.prefillTokens + b.prefillTokens;
    both.prefillPairs = a.prefillPairs + b.prefillPairs;
    both.prefillKvBytes = a.prefillKvBytes + b.prefillKvBytes;
    both.decodeSequences = a.decodeSequences + b.decodeSequences;
    both.decodeTokens = a.decodeTokens + b.decodeTokens;
    both.decodeKvBytes = a.decodeKvBytes + b.decodeKvBytes;
    both.logitRows = a.logitRows + b.logitRows;
    return both;
  }
}

import type { Engine, FinishReason, GenerateRequest, TokenLogprob, Usage } from '../../engine/index.js';

export interface Generated {
  readonly choices: {
    text: string;
    tokens: number[];
    logprobs: TokenLogprob[];
    reason?: FinishReason;
    stoppedBy?: unknown;
  }[];
  readonly prompt?: readonly TokenLogprob[];
  readonly usage: Usage;
}

let nextId = 0;

export function requestFor(prompt: ArrayLike<number>, over: Partial<GenerateRequest> = {}): GenerateRequest {
  return {
    id: `request-${nextId++}`,
    prompt: Int32Array.from(prompt),
    n: 1,
    maxTokens: 32,
    minTokens: 0,
    stop: [],
    stopTokenIds: [],
    ignoreEos: false,
    logprobs: -1,
    promptLogprobs: false,
    priority: 0,
    ...over,
    sampling: {
      temperature: 0,
      topP: 1,
      topK: 0,
      minP: 0,
      presencePenalty: 0,
      frequencyPenalty: 0,
      repetitionPenalty: 1,
      logitBias: new Map(),
      seed: 1n,
      ...over.sampling,
    },
  };
}

/** Runs a request to its end; rejects with its error. `onTokens` is told how many it has after each batch of events. */
export function generate(
  engine: Engine,
  request: GenerateRequest,
  onTokens: (count: number) => void = () => {},
): Promise<Generated> {
  return new Promise((resolve, reject) => {
    const choices: Generated['choices'] = Array.from({ length: request.n }, () => ({
      text: '',
      tokens: [],
      logprobs: [],
    }));
    let prompt: readonly TokenLogprob[] | undefined;
    let count = 0;
    engine.submit(request, (events) => {
      for (const event of events) {
        if (event.type === 'tokens') {
          const choice = choices[event.choice]!;
          choice.text += event.text;
          choice.tokens.push(...event.tokens);
          choice.logprobs.push(...(event.logprobs ?? []));
          count += event.tokens.length;
        } else if (event.type === 'finish') {
          choices[event.choice]!.reason = event.reason;
          choices[event.choice]!.stoppedBy = event.stoppedBy;
        } else if (event.type === 'prompt') {
          prompt = event.promptLogprobs;
        } else if (event.type === 'done') {
          resolve({ choices, usage: event.usage, ...(prompt && { prompt }) });
        } else {
          reject(event.error);
        }
      }
      onTokens(count);
    });
  });
}

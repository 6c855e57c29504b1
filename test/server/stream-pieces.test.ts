import { expect, it } from 'vitest';
import type { TokenLogprob } from '../../engine/index.js';
import type { Prepared } from '../../server/prepare/prepared.js';
import { PieceStream } from '../../server/stream-pieces.js';
import { requestFor } from '../support/generate.js';

it('a stream shows the scores of a prompt of any length', () => {
  const prompt = {
    request: requestFor([1]),
    partNames: { prompt: 'prompt', maxTokens: 'max_tokens' },
    echo: { text: 'a', length: 1, hidden: 0 },
  };
  const prepared: Prepared = {
    kind: 'completion',
    stream: true,
    includeUsage: false,
    choices: 1,
    logprobs: 0,
    prompts: [prompt],
  };
  const token: TokenLogprob = {
    token: 1,
    text: 'a',
    bytes: new Uint8Array(),
    offset: 0,
    logprob: 0,
    top: [],
  };
  const [echo] = new PieceStream(prepared, prompt, 0).next([
    { type: 'prompt', promptLogprobs: Array<TokenLogprob>(500_000).fill(token) },
    { type: 'finish', choice: 0, reason: 'length' },
  ]);
  expect(echo!.logprobs).toHaveLength(500_000);
});

import type { TokenLogprob } from '../../engine/index.js';

/** JSON has no infinity; this is what OpenAI shows for "next to impossible". */
const leastLogprob = -9999;

function finite(logprob: number): number {
  return Number.isFinite(logprob) ? logprob : leastLogprob;
}

/** `choices[].logprobs.content` of a chat completion. */
export function chatLogprobs(tokens: readonly TokenLogprob[]): object[] {
  return tokens.map((token) => ({
    token: token.text,
    logprob: finite(token.logprob),
    bytes: [...token.bytes],
    top_logprobs: token.top.map(({ text, bytes, logprob }) => ({
      token: text,
      logprob: finite(logprob),
      bytes: [...bytes],
    })),
  }));
}

/** `choices[].logprobs` of a text completion. */
export function completionLogprobs(tokens: readonly TokenLogprob[]): object {
  return {
    tokens: tokens.map(({ text }) => text),
    // The first token of a prompt has nothing before it.
    token_logprobs: tokens.map(({ logprob }) => (Number.isNaN(logprob) ? null : finite(logprob))),
    top_logprobs: tokens.map(({ top }) =>
      top.length === 0 ? null : Object.fromEntries(top.map(({ text, logprob }) => [text, finite(logprob)])),
    ),
    text_offset: tokens.map(({ offset }) => offset),
  };
}

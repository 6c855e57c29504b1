import type { TokenLogprob } from '../../engine/index.js';

/** JSON has no infinity; this is what OpenAI shows for "next to impossible". */
const leastLogprob = -9999;

/** Null of the first token of a prompt, which has nothing before it. */
function shown(logprob: number): number | null {
  if (Number.isNaN(logprob)) return null;
  return Number.isFinite(logprob) ? logprob : leastLogprob;
}

/** `choices[].logprobs.content` of a chat completion. */
export function chatLogprobs(tokens: readonly TokenLogprob[]): object[] {
  return tokens.map((token) => ({
    token: token.text,
    logprob: shown(token.logprob),
    bytes: [...token.bytes],
    top_logprobs: token.top.map(({ text, bytes, logprob }) => ({
      token: text,
      logprob: shown(logprob),
      bytes: [...bytes],
    })),
  }));
}

/** `choices[].logprobs` of a text completion. */
export function completionLogprobs(tokens: readonly TokenLogprob[]): object {
  return {
    tokens: tokens.map(({ text }) => text),
    token_logprobs: tokens.map(({ logprob }) => shown(logprob)),
    top_logprobs: tokens.map(({ top }) =>
      top.length === 0 ? null : Object.fromEntries(top.map(({ text, logprob }) => [text, shown(logprob)])),
    ),
    text_offset: tokens.map(({ offset }) => offset),
  };
}

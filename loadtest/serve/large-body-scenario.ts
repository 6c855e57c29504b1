import { setTimeout as sleep } from 'node:timers/promises';
import { Random } from '../random.js';
import type { Rows } from '../rows.js';
import { distributionOf, median } from '../statistics.js';
import { BackgroundStreams } from './background-streams.js';
import type { CompletionRequest } from './completion-stream.js';
import { errorMessage, readText, send } from './http.js';
import { type PromptSource, randomText } from './prompt-source.js';
import { addGaps } from './stream-rows.js';
import type { ServedModel, Target } from './target.js';

export interface LargeBodyPlan {
  readonly streams: number;
  readonly shortPrompt: number;
  readonly idleSeconds: number;
  /** Of the body that is only large, and of the prompt that is to be tokenized. */
  readonly bodyBytes: number;
  readonly promptTokens: number;
  /** How often each is sent. */
  readonly repetitions: number;
}

/** Between two bodies, so that each meets streams that have settled. */
const pauseMs = 500;

/**
 * What running streams feel of a large request body and of a long text to tokenize. Both are whole, well-formed requests;
 * a model whose context is shorter refuses them, after the work that is measured here.
 */
export async function runLargeBody(
  target: Target,
  model: ServedModel,
  prompts: PromptSource,
  plan: LargeBodyPlan,
  rows: Rows,
): Promise<void> {
  const short = (): CompletionRequest => ({
    model: model.id,
    prompt: prompts.next(plan.shortPrompt),
    maxTokens: model.contextLength - plan.shortPrompt,
  });
  const random = new Random(5);
  const bodies = {
    [`a body of ${(plan.bodyBytes / 1e6).toFixed(0)} MB`]: () => chatBody(model, plan.bodyBytes, random),
    [`a text of ${plan.promptTokens} tokens`]: () =>
      completionBody(model, plan.promptTokens * prompts.charactersPerToken, random),
  };
  const streams = await BackgroundStreams.start(target, Array(plan.streams).fill(short));
  try {
    const idleFrom = performance.now();
    await sleep(plan.idleSeconds * 1000);
    const idle = distributionOf(streams.gapsWithin(idleFrom, performance.now()));
    addGaps(rows, `TBT of ${plan.streams} streams`, idle);
    for (const [name, make] of Object.entries(bodies)) {
      const gaps: number[] = [];
      const answered: number[] = [];
      for (let turn = 0; turn < plan.repetitions; turn += 1) {
        // Made before the clock starts: writing 5 MB of JSON takes this process a while too.
        const body = make();
        const from = performance.now();
        await post(target, body);
        const to = performance.now();
        answered.push(to - from);
        await sleep(pauseMs);
        gaps.push(...streams.gapsTouching(from, to));
      }
      addGaps(rows, `TBT while ${name} is read`, distributionOf(gaps), idle);
      rows.add(`answer to ${name}, p50`, median(answered), 'ms');
    }
  } finally {
    await streams.stop();
  }
}

function chatBody({ id }: ServedModel, bytes: number, random: Random): Buffer {
  const content = randomText(bytes, random);
  return Buffer.from(JSON.stringify({ model: id, max_tokens: 1, messages: [{ role: 'user', content }] }));
}

function completionBody({ id }: ServedModel, characters: number, random: Random): Buffer {
  return Buffer.from(JSON.stringify({ model: id, max_tokens: 1, prompt: randomText(characters, random) }));
}

/** A refusal for length is an answer; any other is an Error. */
async function post(target: Target, body: Buffer): Promise<void> {
  const path = body.includes('"messages"') ? '/v1/chat/completions' : '/v1/completions';
  const response = await send({ target, method: 'POST', path, body });
  const text = await readText(response);
  const tooLong = response.statusCode === 400 && text.includes('context_length_exceeded');
  if (response.statusCode !== 200 && !tooLong) {
    throw new Error(`${path} with ${body.length} bytes: ${response.statusCode} ${errorMessage(text)}`);
  }
}

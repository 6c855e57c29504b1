import { setTimeout as sleep } from 'node:timers/promises';
import { Random } from '../random.js';
import type { Rows } from '../rows.js';
import { distributionOf, median } from '../statistics.js';
import { BackgroundStreams } from './background-streams.js';
import { largeBody, post, type Sending, textToComplete, textToTokenize } from './large-requests.js';
import { longAnswers } from './long-answers.js';
import { type PromptSource, randomText, tokenize } from './prompt-source.js';
import { addGaps } from './stream-rows.js';
import type { ServedModel, Target } from './target.js';

export interface LargeBodyPlan {
  readonly streams: number;
  /** Prompts of the running streams, in tokens. */
  readonly shortPrompt: number;
  readonly idleSeconds: number;
  /** Of the body that is only large. */
  readonly bodyBytes: number;
  /** About as many has the text that is to be tokenized. */
  readonly textTokens: number;
  /** How often each is sent. */
  readonly repetitions: number;
}

/**
 * Before a request, since making 5 MB of JSON keeps this process from reading its streams, and what waited must not count
 * as the server's doing. After it, since what it does to the streams may show late.
 */
const settle = () => sleep(500);

const nothing = async () => {};

/** From when to when, in milliseconds of `performance.now()`. */
type Window = readonly [from: number, to: number];

/**
 * What running streams feel of a large body and of a long text to tokenize, and how long each takes to be answered, with
 * nothing beside it and beside the streams.
 */
export async function runLargeBody(
  target: Target,
  model: ServedModel,
  prompts: PromptSource,
  plan: LargeBodyPlan,
  rows: Rows,
): Promise<void> {
  const random = new Random(5);
  const characters = plan.textTokens * prompts.charactersPerToken;
  const body = `a body of ${amount(plan.bodyBytes / 1e6)} MB`;
  const text = `a text of ${amount(plan.textTokens / 1000)}k tokens`;
  const sendings: Record<string, () => Sending> = {
    [`tokenizing ${text}`]: () => textToTokenize(model, characters, random),
    [`answering ${text} as a prompt`]: () => textToComplete(model, characters, random),
    [`answering ${body}`]: () => largeBody(model, plan.bodyBytes, random),
  };
  const repeat = async (
    make: () => Sending,
    onMade: () => Promise<void>,
    onAnswer: (from: number, to: number) => Promise<void>,
  ) => {
    const times: number[] = [];
    for (let turn = 0; turn < plan.repetitions; turn += 1) {
      const sending = make();
      await onMade();
      const from = performance.now();
      await post(target, sending);
      const to = performance.now();
      times.push(to - from);
      await onAnswer(from, to);
    }
    return times;
  };

  const example = await tokenize(target, randomText(characters, random));
  rows.add('tokens of such a text', example.length, 'tokens');
  const alone = new Map<string, number>();
  for (const [name, make] of Object.entries(sendings)) {
    // Compiles what runs; not counted.
    await post(target, make());
    const times = await repeat(make, nothing, nothing);
    alone.set(name, median(times));
    rows.add(`${name}, alone, p50`, median(times), 'ms');
  }

  const streams = await BackgroundStreams.start(
    target,
    plan.streams,
    longAnswers(model, prompts, plan.shortPrompt),
  );
  const measured = await streams.during(async () => {
    const begin = performance.now();
    await sleep(plan.idleSeconds * 1000);
    const idle: Window = [begin, performance.now()];
    const beside = [];
    for (const [name, make] of Object.entries(sendings)) {
      const windows: Window[] = [];
      const times = await repeat(make, settle, async (from, to) => {
        await settle();
        windows.push([from, to]);
        streams.check();
      });
      beside.push({ name, times, windows });
    }
    return { idle, beside };
  });
  const idle = distributionOf(streams.gapsTouching(...measured.idle));
  addGaps(rows, `TBT of ${plan.streams} streams`, idle);
  for (const { name, times, windows } of measured.beside) {
    const gaps = windows.flatMap((window) => streams.gapsTouching(...window));
    rows.add(`${name}, beside ${plan.streams} streams, p50`, median(times), 'ms', alone.get(name)!);
    addGaps(rows, `TBT while ${name}`, distributionOf(gaps), idle);
  }
}

/** 5, 0.5: as few digits as say it. */
function amount(value: number): string {
  return String(Number(value.toPrecision(3)));
}

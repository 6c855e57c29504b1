import process from 'node:process';
import type { ChatTemplate, Engine, EngineStats, Tokenizer } from '../../engine/index.js';
import { says } from '../quality/retrieval.js';
import { Random } from '../random.js';
import { median } from '../statistics.js';
import { SessionClient } from './session-client.js';
import { type ToldFact, ToldFacts } from './told-facts.js';

export interface SessionPlan {
  /** Of the whole session. */
  readonly tokens: number;
  /** Of the text between two questions. */
  readonly turnTokens: number;
  /** How far back the facts stand that are asked for, in turns. */
  readonly distances: readonly number[];
  readonly seed: number;
}

/** What a stretch of the session was like. */
export interface Stretch {
  /** Tokens of the session at its end. */
  readonly end: number;
  /** Medians over its turns. */
  readonly readTokensPerSecond: number;
  readonly stepSeconds: number;
  /** Of the session's KV, at the end of the turn that had most. */
  readonly heldBytes: number;
  /** Resident memory of the process. */
  readonly residentBytes: number;
}

export interface Answers {
  right: number;
  asked: number;
}

export interface SessionFigures {
  readonly stretches: readonly Stretch[];
  readonly byDistance: ReadonlyMap<number, Answers>;
  /** Of the session's first fact, asked once a stretch. */
  readonly sink: Answers;
}

/** Stretches end where the session has twice as many tokens as before. */
const firstStretch = 2048;

/** One session from its first token to its last: text is read, and what it told is asked for. */
export async function measureSession(
  engine: Engine,
  model: { readonly tokenizer: Tokenizer; readonly template: ChatTemplate },
  { tokens, turnTokens, distances, seed }: SessionPlan,
  onStretch: (stretch: Stretch) => void,
): Promise<SessionFigures> {
  const { tokenizer, template } = model;
  const client = new SessionClient(engine, tokenizer, template);
  const told = new ToldFacts(
    new Random(seed),
    (text) => tokenizer.encode(text, { special: false, addBos: false }).length,
    2 * Math.max(...distances),
  );
  const byDistance = new Map<number, Answers>(
    distances.map((distance) => [distance, { right: 0, asked: 0 }]),
  );
  const sink: Answers = { right: 0, asked: 0 };
  const stretches: Stretch[] = [];
  let turns: { rate: number; step: number; held: number }[] = [];

  /** Says new text, if there is some, and asks. Only a turn with text tells how fast it was. */
  const ask = async (text: string, fact: ToldFact, answers: Answers): Promise<void> => {
    const before = client.tokens;
    const reading = text === '' ? '' : `Read this text.\n${text}\n`;
    const turn = await client.say(`${reading}Question: ${fact.question}`);
    answers.asked++;
    if (says(turn.text, fact.value)) answers.right++;
    if (text === '') return;
    const held = heldBytes(await engine.stats());
    turns.push({ rate: (client.tokens - before) / turn.firstTokenSeconds, step: turn.stepSeconds, held });
  };

  let stretchEnd = Math.min(firstStretch, tokens);
  for (let turn = 0; client.tokens < tokens; turn++) {
    const begin = client.tokens;
    const text = told.write(begin, turnTokens);
    const distance = distances[turn % distances.length]!;
    const fact = told.at(begin + turnTokens, distance);
    if (fact) await ask(text, fact, byDistance.get(distance)!);
    else await ask(text, told.at(begin + turnTokens, turnTokens / 2) ?? told.first!, { right: 0, asked: 0 });
    if (client.tokens < stretchEnd) continue;
    await ask('', told.first!, sink);
    const steps = turns.map(({ step }) => step).filter((step) => !Number.isNaN(step));
    const stretch: Stretch = {
      end: client.tokens,
      readTokensPerSecond: median(turns.map(({ rate }) => rate)),
      stepSeconds: median(steps),
      heldBytes: Math.max(...turns.map(({ held }) => held)),
      residentBytes: process.memoryUsage.rss(),
    };
    stretches.push(stretch);
    onStretch(stretch);
    turns = [];
    while (stretchEnd <= client.tokens) stretchEnd *= 2;
    stretchEnd = Math.min(stretchEnd, tokens);
  }
  client.end();
  return { stretches, byDistance, sink };
}

/** Of the only session. Between two turns it lies in host memory; on its way there it lies in both. */
function heldBytes({ kvHeldBytes, kvSwappedBytes }: EngineStats): number {
  const inKvMemory = Object.values(kvHeldBytes).reduce((sum, bytes) => sum + bytes, 0);
  return Math.max(inKvMemory, kvSwappedBytes);
}

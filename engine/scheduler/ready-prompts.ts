import { isUrgent, type PrefillQueue, prefillScore } from './prefill-queue.js';
import type { Work } from './work.js';

export interface PromptQueues<W extends Work> {
  /** Without a slot. */
  readonly waiting: PrefillQueue<W>;
  /** With a slot, their prompt partly read. */
  readonly reading: PrefillQueue<W>;
}

/** How the scheduler answers for single prompts. */
export interface PromptRules<W> {
  /** Whether one that has a slot may be in a step now. */
  mayRun(work: W): boolean;
  /** Gives a waiting one a slot, and has it be read. False if there is no room. */
  start(work: W): boolean;
}

/**
 * Prompts to read next, in order. A waiting one is started when its turn comes before a step of so many tokens is full, and
 * memory allows. Of those that wait nobody passes the one in front, or short prompts would starve a long one of memory.
 */
export function readyPrompts<W extends Work>(
  { waiting, reading }: PromptQueues<W>,
  maxStepTokens: number,
  nowMs: number,
  { mayRun, start }: PromptRules<W>,
): W[] {
  const ready: W[] = [];
  const ordered = readingInOrder(reading, nowMs, mayRun);
  let isOpen = true;
  let tokens = 0;
  for (let next = 0; ; ) {
    const work = ordered[next];
    const first =
      isOpen && tokens < maxStepTokens ? waiting.first(nowMs, (candidate) => !candidate.paused) : undefined;
    if (first && (!work || goesBefore(first, work, waiting, nowMs))) {
      isOpen = start(first);
      if (isOpen && mayRun(first)) {
        ready.push(first);
        tokens += first.remainingTokens;
      }
      continue;
    }
    if (!work) break;
    ready.push(work);
    tokens += work.remainingTokens;
    next++;
  }
  // Making room for one may have taken the slot of another.
  return ready.filter(({ phase }) => phase === 'prefill');
}

function readingInOrder<W extends Work>(
  reading: PrefillQueue<W>,
  nowMs: number,
  mayRun: (work: W) => boolean,
): W[] {
  const ready: W[] = [];
  const urgent: W[] = [];
  for (const work of reading) {
    if (!mayRun(work)) continue;
    (isUrgent(work, nowMs) ? urgent : ready).push(work);
  }
  return urgent.length > 0 ? [...urgent, ...ready] : ready;
}

function goesBefore<W extends Work>(a: W, b: W, { order }: PrefillQueue<W>, nowMs: number): boolean {
  const urgency = Number(isUrgent(b, nowMs)) - Number(isUrgent(a, nowMs));
  if (urgency !== 0) return urgency < 0;
  return prefillScore(a, order) < prefillScore(b, order);
}

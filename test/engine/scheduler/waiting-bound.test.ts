import { describe, expect, it } from 'vitest';
import { openPolicy, policyNames } from '../../../engine/scheduler/open-policy.js';
import { agingTokensPerSecond } from '../../../engine/scheduler/prefill-queue.js';
import { Scheduler } from '../../../engine/scheduler/scheduler.js';
import { splitsOf } from '../../../engine/scheduler/splits.js';
import type { StepPlan } from '../../../engine/scheduler/work.js';
import { CountedMemory, CountedWork } from './counted-memory.js';
import { randomOf, simplePredictor } from './history.js';

const units = 8;
const maxStepTokens = 256;

/** Sequences in the order in which they come, and when each had its first token. */
function serve(
  policyName: (typeof policyNames)[number],
  works: readonly CountedWork[],
): Map<CountedWork, number> {
  const predictor = simplePredictor(units);
  const policy = openPolicy(
    policyName,
    { decodeSlack: 1.5, prefillShare: 0.5, budgetTokens: maxStepTokens },
    splitsOf(units, 1),
    predictor,
  );
  const memory = new CountedMemory(works.length, 1e9, 0);
  const scheduler = new Scheduler({ memory, policy, order: 'spf', units, maxStepTokens });
  const firstTokenMs = new Map<CountedWork, number>();
  const running: { plan: StepPlan<CountedWork>; endMs: number; seconds: number }[] = [];
  let nowMs = 0;
  let next = 0;
  while (firstTokenMs.size < works.length) {
    for (; works[next] && works[next]!.arrivalMs <= nowMs; next++) scheduler.add(works[next]!);
    for (const plan of scheduler.plan(nowMs)) {
      const tokens = plan.chunks.reduce((sum, chunk) => sum + chunk.tokens, 0);
      const seconds = 0.01 + (tokens * 1e-3) / (plan.units / units);
      running.push({ plan, seconds, endMs: nowMs + 1000 * seconds });
    }
    running.sort((a, b) => a.endMs - b.endMs);
    const arrivalMs = works[next]?.arrivalMs ?? Number.POSITIVE_INFINITY;
    if (running.length === 0 || arrivalMs < running[0]!.endMs) {
      nowMs = arrivalMs;
      continue;
    }
    const { plan, endMs, seconds } = running.shift()!;
    nowMs = endMs;
    scheduler.complete(plan, { seconds, nowMs });
    for (const { work } of plan.chunks) {
      if (work.phase !== 'decode') continue;
      if (!firstTokenMs.has(work)) firstTokenMs.set(work, nowMs);
      work.generated++;
      if (work.remainingOutput === 0) scheduler.end(work);
    }
  }
  return firstTokenMs;
}

/**
 * By ageing, only prompts that came before a prompt of n tokens or within n / 15 seconds after it may be read before it.
 * With memory for all, it has its first token when these are read, however many shorter ones come later.
 */
function latestMs(work: CountedWork, works: readonly CountedWork[], msPerToken: number): number {
  const until = work.arrivalMs + (1000 * work.promptTokens) / agingTokensPerSecond;
  const before = works.filter(({ arrivalMs }) => arrivalMs <= until);
  return until + msPerToken * before.reduce((sum, { promptTokens }) => sum + promptTokens, 0);
}

describe('waiting', () => {
  for (const policyName of policyNames) {
    it(`is bounded for every prompt under ${policyName}, while shorter ones keep coming`, () => {
      const below = randomOf(1);
      let arrivalMs = 0;
      // For two minutes more than the device can read: short prompts, and a few long ones among them.
      const works = Array.from({ length: 4500 }, (_, serial) => {
        arrivalMs += below(54);
        const prompt = serial < 400 && serial % 50 === 3 ? 200 + below(100) : 20 + below(40);
        return new CountedWork(serial, arrivalMs, prompt, 1 + below(4));
      });
      const firstTokenMs = serve(policyName, works);
      const tokens = works.reduce((sum, { promptTokens }) => sum + promptTokens, 0);
      // Half more than on average, since steps differ in how much they read.
      const msPerToken = (1.5 * Math.max(...firstTokenMs.values())) / tokens;
      for (const work of works) {
        const bound = latestMs(work, works, msPerToken);
        if (firstTokenMs.get(work)! > bound) {
          expect.fail(`the prompt ${work.serial} of ${work.promptTokens} tokens waited beyond its bound`);
        }
      }
    });
  }

  it('is shorter for short prompts under SPF than in order of arrival', () => {
    const works = Array.from(
      { length: 20 },
      (_, serial) => new CountedWork(serial, serial, serial < 4 ? 4000 : 20, 4),
    );
    const first = serve('chunked', works);
    const shortest = works.slice(4).map((work) => first.get(work)!);
    const longest = works.slice(0, 4).map((work) => first.get(work)!);
    expect(Math.max(...shortest)).toBeLessThan(Math.min(...longest));
  });
});

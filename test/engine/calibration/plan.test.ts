import { describe, expect, it } from 'vitest';
import {
  type MicroRun,
  type PlanLimits,
  planMicroRuns,
  withinBudget,
} from '../../../engine/calibration/plan.js';
import { splitsOf } from '../../../engine/scheduler/splits.js';

const limits: PlanLimits = {
  units: 132,
  splits: splitsOf(132, 8),
  maxStepTokens: 512,
  maxSequences: 32,
  pageTokens: 32,
  contextLength: 2048,
  kvBytesPerToken: 1000,
  quick: false,
};

const shapesOf = (run: MicroRun) => (run.mode === 'alone' ? [run.shape] : [run.prefill, run.decode]);

describe('the plan of micro-runs', () => {
  it('holds prompts, decoding and both in one step, alone and beside a busy lane, on several shares', () => {
    const plan = planMicroRuns(limits);
    const alone = plan.flatMap((run) => (run.mode === 'alone' ? [run] : []));
    const sharesOf = (isKind: (run: (typeof alone)[number]) => boolean) =>
      [...new Set(alone.filter(isKind).map(({ units }) => units))].sort((a, b) => a - b);
    expect(sharesOf(({ shape }) => shape.chunks.length > 0)).toEqual([32, 64, 96, 132]);
    // Of 132 units that are split in groups of 8, decode has the odd four too.
    expect(sharesOf(({ shape }) => shape.chunks.length === 0)).toEqual([36, 68, 100, 132]);
    expect(alone.some(({ shape }) => shape.chunks.length > 0 && shape.sequences > 0)).toBe(true);
    expect(alone.some(({ shape }) => shape.chunks.length > 1)).toBe(true);
    const together = plan.flatMap((run) => (run.mode === 'together' ? [run.prefillUnits] : []));
    expect(new Set(together)).toEqual(new Set([32, 64, 96]));
  });

  it.each([
    limits,
    { ...limits, units: 1, splits: [] },
    { ...limits, units: 2, splits: [1], contextLength: 600 },
    { ...limits, maxSequences: 1, quick: true },
  ])('stays within the device and the model', (within) => {
    const plan = planMicroRuns(within);
    expect(plan.length).toBeGreaterThan(5);
    for (const run of plan) {
      expect(run.mode === 'alone' ? run.units : run.prefillUnits).toBeLessThanOrEqual(within.units);
      for (const { chunks, sequences, context } of shapesOf(run)) {
        const tokens = chunks.reduce((sum, chunk) => sum + chunk.tokens, sequences);
        expect(tokens).toBeLessThanOrEqual(within.maxStepTokens);
        expect(sequences).toBeLessThanOrEqual(within.maxSequences);
        for (const chunk of [...chunks, { context, tokens: sequences > 0 ? 1 : 0 }]) {
          expect(chunk.context % within.pageTokens).toBe(0);
          expect(chunk.context + chunk.tokens).toBeLessThanOrEqual(within.contextLength);
        }
      }
    }
  });

  it('is the same each time, without repetitions', () => {
    const plan = planMicroRuns(limits);
    expect(planMicroRuns(limits)).toEqual(plan);
    expect(new Set(plan.map((run) => JSON.stringify(run))).size).toBe(plan.length);
  });

  it('keeps to a budget, and spends no large part of it on one run', () => {
    const plan = planMicroRuns(limits);
    const cost = (run: MicroRun) =>
      shapesOf(run).reduce((sum, { sequences }) => sum + 0.01 + sequences / 10, 0);
    const kept = withinBudget(plan, 20, cost);
    expect(kept.reduce((sum, run) => sum + cost(run), 0)).toBeLessThanOrEqual(20);
    expect(Math.max(...kept.map(cost))).toBeLessThanOrEqual(20 / 15);
    expect(kept.length).toBeGreaterThan(20);
  });
});

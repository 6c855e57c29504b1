import { describe, expect, it } from 'vitest';
import {
  type MicroRun,
  type PlanLimits,
  planMicroRuns,
  type Shape,
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
  it('asks each split for prompts and streams alone and at once, and the whole device for each and for both in a step', () => {
    const plan = planMicroRuns(limits);
    const alone = plan.flatMap((run) => (run.mode === 'alone' ? [run] : []));
    const sharesOf = (isKind: (run: (typeof alone)[number]) => boolean) =>
      new Set(alone.filter(isKind).map(({ units }) => units));
    expect(sharesOf(({ shape }) => shape.sequences === 0)).toEqual(new Set([...limits.splits, 132]));
    // Of 132 units that are split in groups of 8, decode has the odd four too.
    expect(sharesOf(({ shape }) => shape.chunks.length === 0)).toEqual(
      new Set([...limits.splits.map((split) => 132 - split), 132]),
    );
    expect(sharesOf(({ shape }) => shape.chunks.length > 0 && shape.sequences > 0)).toEqual(new Set([132]));
    expect(alone.some(({ shape }) => shape.chunks.length > 1)).toBe(true);
    const together = plan.flatMap((run) => (run.mode === 'together' ? [run.prefillUnits] : []));
    expect(new Set(together)).toEqual(new Set(limits.splits));
  });

  it.each([40, 80, 160])('leaves no corner out where a budget ends it after %i runs', (count) => {
    const runs = planMicroRuns(limits).slice(0, count);
    const chunk = (shape: Shape) => shape.chunks.length > 0;
    const inHalves = (values: readonly number[], middle: number) => {
      const part = values.filter((value) => value < middle).length / values.length;
      expect(part).toBeGreaterThan(0.2);
      expect(part).toBeLessThan(0.8);
    };
    const together = runs.flatMap((run) => (run.mode === 'together' ? [run] : []));
    inHalves(
      together.map((run) => run.prefillUnits),
      68,
    );
    for (const shapes of [
      together.map(({ prefill }) => prefill),
      runs.flatMap((run) => (run.mode === 'alone' && chunk(run.shape) ? [run.shape] : [])),
    ]) {
      inHalves(
        shapes.map(({ chunks }) => chunks.reduce((sum, { tokens }) => sum + tokens, 0)),
        Math.sqrt(8 * 512),
      );
    }
    for (const shapes of [
      together.map(({ decode }) => decode),
      runs.flatMap((run) => (run.mode === 'alone' && run.shape.sequences > 0 ? [run.shape] : [])),
    ]) {
      inHalves(
        shapes.map(({ sequences }) => sequences),
        Math.sqrt(32),
      );
      inHalves(
        shapes.map(({ context }) => context),
        Math.sqrt(32 * 1536),
      );
    }
  });

  it('draws a quarter of each kind at random, to judge the fit by', () => {
    const plan = planMicroRuns(limits);
    for (const mode of ['alone', 'together']) {
      const ofMode = plan.filter((run) => run.mode === mode);
      const part = ofMode.filter(({ heldOut }) => heldOut).length / ofMode.length;
      expect(part).toBeGreaterThan(0.2);
      expect(part).toBeLessThan(0.3);
    }
    const shapes = (heldOut: boolean) =>
      plan.filter((run) => run.heldOut === heldOut).map((run) => JSON.stringify(shapesOf(run)));
    const fitted = new Set(shapes(false));
    // Small shapes are met by chance.
    expect(shapes(true).filter((shape) => fitted.has(shape)).length).toBeLessThan(fitted.size / 20);
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

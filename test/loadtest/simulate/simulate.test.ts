import { describe, expect, it } from 'vitest';
import { Random } from '../../../loadtest/random.js';
import { findCapacity } from '../../../loadtest/simulate/capacity.js';
import { policyDefaults, policyNames } from '../../../loadtest/simulate/policies.js';
import { type RunOptions, simulate } from '../../../loadtest/simulate/run.js';
import { makeSetup } from '../../../loadtest/simulate/setup.js';
import { summarize } from '../../../loadtest/simulate/summary.js';
import { variant } from '../../../loadtest/simulate/variant.js';
import { syntheticWorkload } from '../../../loadtest/simulate/workloads/synthetic.js';
import type { Workload } from '../../../loadtest/simulate/workloads/workload.js';

const setup = makeSetup({
  gpu: 'l20',
  model: 'llama-3.1-8b',
  kv: 'bf16',
  seed: 1,
  slots: 64,
  maxStepTokens: 4096,
  hostBytes: 4e9,
});

function optionsOf(changes: Partial<RunOptions> = {}): RunOptions {
  return {
    setup,
    policy: 'nexus',
    order: 'spf',
    policyOptions: { ...policyDefaults, knowsSlo: true },
    slo: { ttft: 5000, tpot: 100 },
    workload: syntheticWorkload('mixed'),
    rate: 1,
    requests: 60,
    seed: 4,
    ...changes,
  };
}

const policiesAndOrders = policyNames.flatMap((policy) =>
  (['spf', 'fcfs'] as const).map((order) => ({ policy, order })),
);

describe.each(policiesAndOrders)('$policy, $order', ({ policy, order }) => {
  it('ends every request once, with all its tokens', () => {
    const options = optionsOf({ policy, order });
    const { measures, nodes } = simulate(options);
    const arrivals = [...options.workload.arrivals(1, 60, new Random(4))];
    const sum = (values: number[]) => values.reduce((total, value) => total + value, 0);
    expect(measures.finished).toBe(60);
    expect(measures.promptTokens).toBe(sum(arrivals.map(({ promptTokens }) => promptTokens)));
    expect(measures.outputTokens).toBe(sum(arrivals.map(({ outputTokens }) => outputTokens)));
    expect(measures.ttft.count).toBe(60);
    expect(measures.ttft.count + measures.tbt.count).toBe(measures.outputTokens);
    for (const { memory, scheduler } of nodes) {
      expect(memory.usage()).toBe(0);
      expect(memory.openSlots()).toBe(0);
      expect(scheduler.running + scheduler.waiting).toBe(0);
    }
  });

  it('ends them where memory is short, within the memory', () => {
    const short = { ...setup, kvBytes: setup.kvBytesPerToken * 30_000 };
    const { measures, nodes } = simulate(optionsOf({ policy, order, setup: short, rate: 2 }));
    expect(measures.finished + measures.refused).toBe(60);
    expect(measures.refused).toBe(0);
    for (const { memory } of nodes) {
      expect(memory.mostUsedPages).toBeLessThanOrEqual(memory.totalPages);
      expect(memory.usedHostPages).toBe(0);
    }
  });

  it('gives the same figures for the same seed, and others for another', () => {
    const figures = (seed: number) =>
      summarize(simulate(optionsOf({ policy, order, seed, requests: 30 })), 'x');
    expect(figures(1)).toEqual(figures(1));
    expect(figures(1).ttft).not.toEqual(figures(2).ttft);
  });
});

describe('a simulation', () => {
  it('makes way by copies to the host, or by computing again where there is no host memory', () => {
    const kvBytes = setup.kvBytesPerToken * 26_000;
    const workload = syntheticWorkload('sharegpt');
    const run = (hostBytes: number) =>
      summarize(
        simulate(
          optionsOf({
            setup: { ...setup, kvBytes, hostBytes, slots: 256 },
            policy: 'chunked',
            workload,
            rate: 50,
            requests: 200,
          }),
        ),
        'x',
      );
    const swapped = run(64e9);
    const recomputed = run(0);
    expect(swapped.preemptions).toBeGreaterThan(0);
    // Of one that has computed nothing yet there is nothing to copy.
    expect(swapped.swaps).toBeGreaterThan(0.5 * swapped.preemptions);
    expect(swapped.swaps).toBeLessThanOrEqual(swapped.preemptions);
    expect(recomputed.preemptions).toBeGreaterThan(0);
    expect(recomputed.swaps).toBe(0);
  });

  it('refuses what would not fit into the memory, and goes on', () => {
    const workload: Workload = {
      name: 'one too large',
      recordedRate: null,
      count: 3,
      *arrivals() {
        for (const [index, promptTokens] of [100, 50_000, 100].entries()) {
          yield { atSeconds: index, promptTokens, outputTokens: 5, blockHashes: [] };
        }
      },
    };
    const small = { ...setup, kvBytes: setup.kvBytesPerToken * 10_000 };
    const { measures } = simulate(optionsOf({ setup: small, workload, requests: 3 }));
    expect(measures).toMatchObject({ arrived: 3, refused: 1, finished: 2 });
  });

  it('spares what a conversation has read before', () => {
    const workload: Workload = {
      name: 'one conversation',
      recordedRate: null,
      count: 2,
      *arrivals() {
        yield { atSeconds: 0, promptTokens: 4100, outputTokens: 2, blockHashes: [1, 2, 3, 4, 5, 6, 7, 8] };
        yield {
          atSeconds: 60,
          promptTokens: 4700,
          outputTokens: 2,
          blockHashes: [1, 2, 3, 4, 5, 6, 7, 8, 9],
        };
      },
    };
    const run = summarize(simulate(optionsOf({ workload, requests: 2 })), 'x');
    expect(run.cacheHits).toBeCloseTo(4096 / 8800, 5);
    expect(run.ttft.p50).toBeLessThan(0.4 * run.ttft.max);
  });

  it('spares part of a block where its cache is of smaller ones', () => {
    const workload: Workload = {
      name: 'one system prompt',
      recordedRate: null,
      count: 2,
      *arrivals() {
        for (const atSeconds of [0, 60]) {
          yield { atSeconds, promptTokens: 700, outputTokens: 2, blockHashes: [1, 2] };
        }
      },
    };
    const hits = (cachedBlockTokens: number) =>
      summarize(simulate(optionsOf({ workload, requests: 2, setup: { ...setup, cachedBlockTokens } })), 'x')
        .cacheHits;
    expect(hits(512)).toBeCloseTo(512 / 1400, 5);
    expect(hits(32)).toBeCloseTo(672 / 1400, 5);
  });

  it('carries a higher rate with looser objectives, and none that is impossible', () => {
    const load = { setup, workload: syntheticWorkload('sharegpt'), requests: 60, seed: 1 };
    const carried = (ttft: number) =>
      findCapacity({ ...load, slo: { ttft } }, variant('chunked', 'fcfs'), 0.95).rate;
    expect(carried(5000)).toBeGreaterThan(carried(800));
    expect(carried(800)).toBeGreaterThan(0);
    expect(carried(1)).toBe(0);
  });

  it('carries a trace of which the first part is slower than the whole', () => {
    const workload: Workload = {
      name: 'a slow beginning',
      recordedRate: 1,
      count: 60,
      *arrivals(rate, count) {
        for (let index = 0; index < count; index++) {
          yield { atSeconds: (3 * index) / rate, promptTokens: 200, outputTokens: 20, blockHashes: [] };
        }
      },
    };
    const load = { setup, workload, requests: 60, seed: 1, slo: { ttft: 1000 } };
    expect(findCapacity(load, variant('chunked', 'fcfs'), 0.99).rate).toBeGreaterThan(1);
  });

  it('refuses a model that does not fit the device', () => {
    const options = {
      gpu: 'rtx4090',
      model: 'qwen2.5-14b',
      kv: 'bf16',
      seed: 1,
      slots: 1,
      maxStepTokens: 512,
      hostBytes: 0,
    };
    expect(() => makeSetup(options as Parameters<typeof makeSetup>[0])).toThrow(
      'Qwen2.5-14B does not fit on one NVIDIA RTX 4090',
    );
  });
});

import type { Settings } from '../../config/schema.js';
import type { Trace } from '../serve/completion-stream.js';
import type { LoadResult } from '../serve/load.js';
import { openMachineSetups } from '../simulate/machine-setup.js';
import { policyDefaults } from '../simulate/policies.js';
import { simulate } from '../simulate/run.js';
import type { Arrival } from '../simulate/workloads/workload.js';

/**
 * What clients of a server with these settings would meet with these requests, by the simulator. `kvBlocks`: pages that
 * the server gave itself, which depends on how much memory was free then.
 */
export async function simulateReplay(
  settings: Settings,
  arrivals: readonly Arrival[],
  kvBlocks: number,
): Promise<LoadResult> {
  const { setup } = await openMachineSetups(settings);
  const { scheduler, prefillOrder } = settings.engine;
  const pieceTimes: number[][] = arrivals.map(() => []);
  const { measures, seconds } = simulate({
    setup: {
      ...setup,
      kvBytes: kvBlocks * setup.cachedBlockTokens * setup.kvBytesPerToken,
      // The server has taken all of them.
      contextLength: Number.POSITIVE_INFINITY,
    },
    policy: scheduler,
    order: prefillOrder,
    policyOptions: policyDefaults,
    slo: {},
    workload: {
      name: 'replay',
      recordedRate: null,
      count: arrivals.length,
      arrivals: () => arrivals,
    },
    rate: 1,
    requests: arrivals.length,
    seed: 1,
    onToken: (serial, nowMs) => pieceTimes[serial]!.push(nowMs),
  });
  if (measures.refused > 0) {
    throw new Error(`the simulator has no room for ${measures.refused} requests that the server answered`);
  }
  const traces = arrivals.map(
    ({ atSeconds, promptTokens, outputTokens }, index): Trace => ({
      dueAt: atSeconds * 1000,
      pieceTimes: pieceTimes[index]!,
      endedAt: pieceTimes[index]!.at(-1)!,
      promptTokens,
      completionTokens: outputTokens,
    }),
  );
  return { traces, seconds, clientCpuShare: 0 };
}

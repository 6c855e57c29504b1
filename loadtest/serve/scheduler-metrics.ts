import { figureIn, readMetrics } from './read-metrics.js';
import type { Target } from './target.js';

/** What `GET /metrics` says of how the device is shared. Counts are totals since the start. */
export interface SchedulerMetrics {
  /** Pages of the KV cache that there are. */
  readonly kvBlocks: number;
  readonly prefillSteps: number;
  readonly decodeSteps: number;
  readonly mixedSteps: number;
  readonly repartitions: number;
  /** Units of the prefill lane in its last step. */
  readonly prefillUnits: number;
  /** Measured over foreseen seconds of steps, lately; undefined where the scheduler foresees none. */
  readonly prefillError: number | undefined;
  readonly decodeError: number | undefined;
}

/** Throws an Error that names what the answer lacks: it is another kind of server then. */
export async function schedulerMetrics(target: Target): Promise<SchedulerMetrics> {
  const values = await readMetrics(target);
  const value = figureIn(values, target);
  return {
    kvBlocks: value('kv_blocks_total'),
    prefillSteps: value('steps_total{lane="prefill"}'),
    decodeSteps: value('steps_total{lane="decode"}'),
    mixedSteps: value('mixed_steps_total'),
    repartitions: value('repartitions_total'),
    prefillUnits: value('lane_units{lane="prefill"}'),
    prefillError: values.get('tandem:cost_model_error_ratio{lane="prefill"}'),
    decodeError: values.get('tandem:cost_model_error_ratio{lane="decode"}'),
  };
}

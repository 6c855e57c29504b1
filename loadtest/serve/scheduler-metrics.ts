import { readText, send } from './http.js';
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
  const response = await send({ target, method: 'GET', path: '/metrics' });
  const values = parseMetrics(await readText(response));
  const value = (name: string) => {
    const found = values.get(`tandem:${name}`);
    if (found === undefined) throw new Error(`${target.url}/metrics shows no "${name}": is it Tandem?`);
    return found;
  };
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

/** Lines as `name{label="value"} 1.5` of Prometheus' text format. */
function parseMetrics(text: string): Map<string, number> {
  const values = new Map<string, number>();
  for (const line of text.split('\n')) {
    const [, name, value] = /^([^#\s]\S*) (\S+)$/.exec(line) ?? [];
    if (name !== undefined) values.set(name, Number(value));
  }
  return values;
}

import type { Rows } from '../rows.js';
import type { ServedModel, Target } from './target.js';

export interface RequestRatePlan {
  readonly connections: number;
  readonly seconds: number;
}

/** Completions of one token over keep-alive connections, each sending its next request when it has its answer. */
export async function measureRequestRate(
  target: Target,
  model: ServedModel,
  plan: RequestRatePlan,
  rows: Rows,
): Promise<void> {
  const options = {
    url: new URL('/v1/completions', target.url).href,
    connections: plan.connections,
    method: 'POST' as const,
    headers: {
      'content-type': 'application/json',
      ...(target.apiKey !== undefined && { authorization: `Bearer ${target.apiKey}` }),
    },
    body: JSON.stringify({ model: model.id, prompt: 'Hello', max_tokens: 1, temperature: 0 }),
  };
  // It takes a third of a second to load, and no other scenario needs it.
  const { default: autocannon } = await import('autocannon');
  // Compiles what runs and fills the prefix cache; not counted.
  await autocannon({ ...options, duration: Math.min(2, plan.seconds) });
  const cpu = process.cpuUsage();
  const begin = performance.now();
  const { requests, latency, non2xx, errors, timeouts } = await autocannon({
    ...options,
    duration: plan.seconds,
  });
  const { user, system } = process.cpuUsage(cpu);
  const failed = non2xx + errors + timeouts;
  if (failed > 0) throw new Error(`${failed} of ${requests.total} requests failed`);
  const name = `completions of 1 token, ${plan.connections} connections`;
  rows.add(name, requests.average, 'requests/s');
  rows.add(`${name}, p50`, latency.p50, 'ms');
  rows.add(`${name}, p99`, latency.p99, 'ms', latency.p50);
  rows.add('processor time of the client', (user + system) / 1000 / (performance.now() - begin), 'cores');
}

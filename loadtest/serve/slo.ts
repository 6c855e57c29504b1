import type { Trace } from './completion-stream.js';

/** Upper bounds in milliseconds; an absent one bounds nothing. */
export interface Slo {
  readonly ttft?: number;
  /** Of the request's longest time between tokens: a stream that stutters once has failed. */
  readonly tbt?: number;
  /** Of the request's mean time between tokens. */
  readonly tpot?: number;
  readonly e2e?: number;
}

const names = ['ttft', 'tbt', 'tpot', 'e2e'] as const;

/** `ttft=500ms,tbt=0.1s`; a bare number is milliseconds. Throws an Error that names the part it cannot read. */
export function parseSlo(text: string): Slo {
  return Object.fromEntries(
    text.split(',').map((part) => {
      const [, name, value, unit] = /^(\w+)=(\d+(?:\.\d+)?)(ms|s)?$/.exec(part.trim()) ?? [];
      if (!names.some((known) => known === name)) {
        throw new Error(`"${part}" is no objective: expected ${names.join(', ')} with a time, as ttft=500ms`);
      }
      return [name, Number(value) * (unit === 's' ? 1000 : 1)];
    }),
  );
}

export function meets(trace: Trace, slo: Slo): boolean {
  if (trace.error !== undefined || trace.pieceTimes.length === 0) return false;
  const gaps = gapsOf(trace);
  const mean = gaps.reduce((sum, gap) => sum + gap, 0) / Math.max(1, gaps.length);
  return (
    trace.pieceTimes[0]! - trace.dueAt <= (slo.ttft ?? Number.POSITIVE_INFINITY) &&
    Math.max(0, ...gaps) <= (slo.tbt ?? Number.POSITIVE_INFINITY) &&
    mean <= (slo.tpot ?? Number.POSITIVE_INFINITY) &&
    trace.endedAt - trace.dueAt <= (slo.e2e ?? Number.POSITIVE_INFINITY)
  );
}

/** Time to the first piece of a stream, in milliseconds; none if nothing came. */
export function ttftOf({ dueAt, pieceTimes }: Trace): number[] {
  return pieceTimes.slice(0, 1).map((at) => at - dueAt);
}

/** Times between the pieces of a stream, in milliseconds. */
export function gapsOf({ pieceTimes }: Trace): number[] {
  return pieceTimes.slice(1).map((at, index) => at - pieceTimes[index]!);
}

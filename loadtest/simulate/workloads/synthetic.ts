import type { Random } from '../../random.js';
import { type Arrival, noHashes, type Workload } from './workload.js';

/** Lengths that are lognormal around a mean. */
interface Lengths {
  readonly mean: number;
  /** Standard deviation of the logarithm. */
  readonly spread: number;
  readonly max: number;
}

interface Kind {
  readonly prompt: Lengths;
  readonly output: Lengths;
}

/**
 * Means as in arXiv 2507.06608 (table of workloads). The spreads are ours: documents differ less in length than chats do.
 * What is three of them beyond the mean is cut off.
 */
const kinds = {
  ldc: kind(5905, 0.4, 180, 0.7),
  arxiv: kind(3832, 0.4, 200, 0.7),
  sharegpt: kind(496, 1.1, 97, 0.9),
} as const;

function kind(promptMean: number, promptSpread: number, outputMean: number, outputSpread: number): Kind {
  return {
    prompt: { mean: promptMean, spread: promptSpread, max: promptMean * Math.exp(3 * promptSpread) },
    output: { mean: outputMean, spread: outputSpread, max: outputMean * Math.exp(3 * outputSpread) },
  };
}

/** Which kinds, and the part of each. */
const mixes: Readonly<Record<string, readonly (readonly [keyof typeof kinds, number])[]>> = {
  ldc: [['ldc', 1]],
  arxiv: [['arxiv', 1]],
  sharegpt: [['sharegpt', 1]],
  mixed: [
    ['sharegpt', 0.6],
    ['ldc', 0.4],
  ],
};

export const syntheticNames = Object.keys(mixes);

/**
 * Requests of a named mix. `burstiness` is the squared coefficient of variation of the gaps between them: 1 is a Poisson
 * process, above that they come in bursts (gamma gaps). Throws a RangeError for a name that is not there.
 */
export function syntheticWorkload(name: string, burstiness = 1): Workload {
  const mix = mixes[name];
  if (!mix) throw new RangeError(`no workload "${name}": expected ${syntheticNames.join(', ')}`);
  return {
    name: burstiness === 1 ? name : `${name}, bursts of ${burstiness}`,
    recordedRate: null,
    count: Number.POSITIVE_INFINITY,
    *arrivals(rate, count, random) {
      let atSeconds = 0;
      for (let index = 0; index < count; index++) {
        atSeconds += gap(rate, burstiness, random);
        yield { atSeconds, ...drawRequest(mix, random) };
      }
    },
  };
}

function drawRequest(
  mix: readonly (readonly [keyof typeof kinds, number])[],
  random: Random,
): Omit<Arrival, 'atSeconds'> {
  let left = random.uniform();
  let name = mix[0]![0];
  for (const [candidate, part] of mix) {
    name = candidate;
    left -= part;
    if (left < 0) break;
  }
  const { prompt, output } = kinds[name];
  return {
    promptTokens: lognormal(prompt, random),
    outputTokens: lognormal(output, random),
    blockHashes: noHashes,
  };
}

/**
 * Chat, then long prompts among it, then chat again: a third of the requests each, at the same rate. Shows how a split
 * follows the load.
 */
export function loadStepWorkload(): Workload {
  return {
    name: 'chat, long prompts, chat',
    recordedRate: null,
    count: Number.POSITIVE_INFINITY,
    *arrivals(rate, count, random) {
      let atSeconds = 0;
      for (let index = 0; index < count; index++) {
        atSeconds += random.exponential(1 / rate);
        const isLong = index >= count / 3 && index < (2 * count) / 3;
        yield { atSeconds, ...drawRequest(mixes[isLong ? 'mixed' : 'sharegpt']!, random) };
      }
    },
  };
}

export function gap(rate: number, burstiness: number, random: Random): number {
  if (burstiness === 1) return random.exponential(1 / rate);
  return (gamma(1 / burstiness, random) * burstiness) / rate;
}

function lognormal({ mean, spread, max }: Lengths, random: Random): number {
  const value = mean * Math.exp(spread * random.normal() - spread ** 2 / 2);
  return Math.max(1, Math.min(max, Math.round(value)));
}

/** Of this shape and scale 1 (Marsaglia and Tsang, 2000). */
function gamma(shape: number, random: Random): number {
  if (shape < 1) return gamma(shape + 1, random) * random.uniform() ** (1 / shape);
  const d = shape - 1 / 3;
  const c = 1 / Math.sqrt(9 * d);
  for (;;) {
    const x = random.normal();
    const v = (1 + c * x) ** 3;
    if (v > 0 && Math.log(random.uniform()) < x ** 2 / 2 + d - d * v + d * Math.log(v)) return d * v;
  }
}

import { CopyLink, type PrefillOrder, Timeline } from '../../engine/index.js';
import { Random } from '../random.js';
import type { Slo } from '../serve/slo.js';
import { Measures } from './measures.js';
import { SimulatedNode } from './node.js';
import type { OneDevicePolicyName, PolicyName, PolicyOptions } from './policies.js';
import { SimulatedRequest } from './request.js';
import type { Setup } from './setup.js';
import { type Arrival, hashedTokens, noHashes, type Workload } from './workloads/workload.js';

export interface RunOptions {
  readonly setup: Setup;
  readonly policy: PolicyName;
  readonly order: PrefillOrder;
  readonly policyOptions: Omit<PolicyOptions, 'slo'>;
  readonly slo: Slo;
  readonly workload: Workload;
  /** Requests a second. */
  readonly rate: number;
  readonly requests: number;
  readonly seed: number;
  /** Told of each token; requests are numbered in the order in which they came, those that are refused left out. */
  readonly onToken?: (serial: number, nowMs: number) => void;
}

export interface RunResult {
  readonly options: RunOptions;
  readonly measures: Measures;
  readonly nodes: readonly SimulatedNode[];
  /** From the first arrival to the last token. */
  readonly seconds: number;
}

/** Between the two devices of `disaggregated`: as to the host, with the latency of a network. */
const transferLatencySeconds = 1e-3;

/** Runs one policy on one load, in virtual time, until the last request has ended. */
export function simulate(options: RunOptions): RunResult {
  const { workload, rate, requests, seed, slo } = options;
  const measures = new Measures(slo);
  // Requests and devices draw from streams of their own, so that every policy meets the same requests.
  const arrivals = workload.arrivals(rate, requests, new Random(seed))[Symbol.iterator]();
  const onToken: TokenListener = (request, nowMs) => {
    measures.token(request, nowMs);
    options.onToken?.(request.serial, nowMs);
  };
  const open = options.policy === 'disaggregated' ? twoDevices : oneDevice;
  const cluster = open(options, measures, onToken);
  let serial = 0;
  let next = arrivals.next();
  for (;;) {
    const arrivalAt = next.done ? Number.POSITIVE_INFINITY : next.value.atSeconds;
    const { nextAt } = cluster;
    if (nextAt === Number.POSITIVE_INFINITY && next.done) break;
    if (nextAt <= arrivalAt) {
      cluster.advance();
      continue;
    }
    measures.arrive(arrivalAt * 1000);
    const { promptTokens, outputTokens } = next.value as Arrival;
    const total = promptTokens + outputTokens;
    if (cluster.couldHold(total) && total <= options.setup.contextLength) {
      cluster.add(next.value as Arrival, serial++, arrivalAt);
    } else measures.refused++;
    next = arrivals.next();
  }
  const lost = measures.arrived - measures.refused - measures.finished;
  if (lost > 0)
    throw new Error(`${lost} requests never ended under ${options.policy}: the scheduler is stuck`);
  return { options, measures, nodes: cluster.nodes, seconds: measures.endMs / 1000 };
}

type TokenListener = (request: SimulatedRequest, nowMs: number) => void;

/** Whatever takes requests and lets time pass. */
interface Cluster {
  readonly nodes: readonly SimulatedNode[];
  readonly nextAt: number;
  advance(): void;
  couldHold(tokens: number): boolean;
  add(arrival: Arrival, serial: number, now: number): void;
}

function requestOf(
  { promptTokens, outputTokens, blockHashes }: Arrival,
  serial: number,
  now: number,
  { cachesPrefixes, cachedBlockTokens }: Setup,
): SimulatedRequest {
  const hashes = cachesPrefixes ? hashesOf(blockHashes, cachedBlockTokens) : noHashes;
  return new SimulatedRequest(serial, now * 1000, promptTokens, outputTokens, hashes);
}

/** Hashes of blocks of so many tokens, which divide those of a trace. */
function hashesOf(hashes: readonly number[], blockTokens: number): readonly number[] {
  const parts = hashedTokens / blockTokens;
  if (parts === 1) return hashes;
  return hashes.flatMap((hash) => Array.from({ length: parts }, (_, part) => hash * parts + part));
}

function oneDevice(
  { setup, policy, order, policyOptions, slo, seed }: RunOptions,
  measures: Measures,
  onToken: TokenListener,
): Cluster {
  const node = new SimulatedNode({
    setup,
    policy: setup.openPolicy(policy as OneDevicePolicyName, { ...policyOptions, slo }),
    order,
    random: new Random(seed ^ 0x5eed),
    onToken,
    onEnd: (request) => measures.end(request),
  });
  return {
    nodes: [node],
    get nextAt() {
      return node.nextAt;
    },
    advance: () => node.advance(),
    couldHold: (tokens) => node.memory.couldHold(tokens),
    add: (arrival, serial, now) => node.add(requestOf(arrival, serial, now, setup), now),
  };
}

/**
 * One device reads prompts and samples their first token, the other writes the rest. The KV travels over a link as fast
 * as the host's, after the prompt has been read; its pages on the first device are free at once, and on the second it may
 * wait outside the device's memory. Both are in favour of this policy.
 */
function twoDevices(
  { setup, order, policyOptions, slo, seed }: RunOptions,
  measures: Measures,
  onToken: TokenListener,
): Cluster {
  const arriving = new Timeline<SimulatedRequest>();
  const link = new CopyLink(setup.hostBandwidth, transferLatencySeconds);
  const outputs = new Map<number, number>();
  const prefill = new SimulatedNode({
    setup,
    policy: setup.openPolicy('prefill-first', { ...policyOptions, slo }),
    order,
    random: new Random(seed ^ 0x5eed),
    onToken,
    onEnd: (request, now) => {
      const outputTokens = outputs.get(request.serial)!;
      outputs.delete(request.serial);
      if (outputTokens === 1) {
        measures.end(request);
        return;
      }
      const { serial, arrivalMs, promptTokens, blockHashes } = request;
      const moved = new SimulatedRequest(serial, arrivalMs, promptTokens, outputTokens, blockHashes);
      moved.generatedTokens = 1;
      moved.arrivedTokens = promptTokens;
      moved.firstTokenMs = request.firstTokenMs;
      moved.lastTokenMs = request.lastTokenMs;
      arriving.add(link.send(promptTokens * setup.kvBytesPerToken, now), moved);
    },
  });
  const decode = new SimulatedNode({
    setup,
    policy: setup.openPolicy('chunked', { ...policyOptions, slo }),
    order: 'fcfs',
    random: new Random(seed ^ 0xdec0de),
    onToken,
    onEnd: (request) => measures.end(request),
  });
  return {
    nodes: [prefill, decode],
    get nextAt() {
      return Math.min(prefill.nextAt, decode.nextAt, arriving.nextAt);
    },
    advance() {
      const at = this.nextAt;
      if (prefill.nextAt === at) prefill.advance();
      else if (decode.nextAt === at) decode.advance();
      else decode.add(arriving.next(), at);
    },
    couldHold: (tokens) => prefill.memory.couldHold(tokens),
    add(arrival, serial, now) {
      outputs.set(serial, arrival.outputTokens);
      prefill.add(requestOf({ ...arrival, outputTokens: 1 }, serial, now, setup), now);
    },
  };
}

import {
  CopyLink,
  type LaneName,
  type LanePolicy,
  type PrefillOrder,
  type RandomSource,
  Scheduler,
  type SimulatedDevice,
  SimulatedMemory,
  StepLoad,
  type StepPlan,
  Timeline,
} from '../../engine/index.js';
import type { SimulatedRequest } from './request.js';
import type { Setup } from './setup.js';
import { TimeSeries } from './time-series.js';

export interface NodeOptions {
  readonly setup: Setup;
  readonly policy: LanePolicy;
  readonly order: PrefillOrder;
  readonly random: RandomSource;
  /** A request has got its next token. */
  readonly onToken: (request: SimulatedRequest, nowMs: number) => void;
  /** It has all its tokens, and is gone. */
  readonly onEnd: (request: SimulatedRequest, now: number) => void;
}

interface CopyDone {
  readonly request: SimulatedRequest;
  readonly direction: 'out' | 'in';
}

/** One server: the scheduler on a simulated device, as `engine/engine-loop.ts` is on a real one. Times in seconds. */
export class SimulatedNode {
  readonly memory: SimulatedMemory<SimulatedRequest>;
  readonly scheduler: Scheduler<SimulatedRequest>;
  readonly device: SimulatedDevice;
  /** Part of the units that prompts have, while both lanes work. */
  readonly split = new TimeSeries();
  readonly #options: NodeOptions;
  readonly #copies = new Timeline<CopyDone>();
  readonly #toHost: CopyLink;
  readonly #fromHost: CopyLink;
  readonly #plans: Record<LaneName, StepPlan<SimulatedRequest> | null> = { prefill: null, decode: null };
  #now = 0;
  /** The split since when; NaN while not both lanes work. */
  #splitValue = Number.NaN;
  #splitSince = 0;

  constructor(options: NodeOptions) {
    const { setup, policy, order, random } = options;
    this.#options = options;
    this.#toHost = new CopyLink(setup.hostBandwidth, 20e-6);
    this.#fromHost = new CopyLink(setup.hostBandwidth, 20e-6);
    this.memory = new SimulatedMemory({
      kvBytes: setup.kvBytes,
      bytesPerToken: setup.kvBytesPerToken,
      hostBytes: setup.hostBytes,
      slots: setup.slots,
      blockTokens: setup.cachedBlockTokens,
      copy: (request, direction, bytes) => {
        const link = direction === 'out' ? this.#toHost : this.#fromHost;
        this.#copies.add(link.send(bytes, this.#now), { request, direction });
      },
    });
    this.device = setup.openDevice(random);
    this.scheduler = new Scheduler({
      memory: this.memory,
      policy,
      order,
      units: setup.units,
      maxStepTokens: setup.maxStepTokens,
    });
  }

  /** When the next thing happens here; Infinity if nothing will unless a request comes. */
  get nextAt(): number {
    return Math.min(this.device.nextEnd(), this.#copies.nextAt);
  }

  add(request: SimulatedRequest, now: number): void {
    this.#now = now;
    this.scheduler.add(request);
    this.#start();
  }

  /** Lets happen what happens at `nextAt`. */
  advance(): void {
    const stepEnd = this.device.nextEnd();
    if (stepEnd <= this.#copies.nextAt) {
      this.#now = stepEnd;
      this.#finishStep();
    } else {
      this.#now = this.#copies.nextAt;
      this.#finishCopy(this.#copies.next());
    }
    this.#start();
  }

  #finishStep(): void {
    const now = this.#now;
    const { lane, seconds, opSeconds } = this.device.finishNext();
    const plan = this.#plans[lane]!;
    this.#plans[lane] = null;
    const nowMs = now * 1000;
    const { onToken, onEnd } = this.#options;
    this.scheduler.complete(plan, { seconds, opSeconds, nowMs });
    for (const { work, isPrompt } of plan.chunks) {
      // Of a prompt only the last part brings a token.
      if (work.phase !== 'decode') continue;
      if (isPrompt) this.memory.publish(work);
      work.generatedTokens++;
      onToken(work, nowMs);
      if (work.remainingOutput > 0) continue;
      this.scheduler.end(work);
      onEnd(work, now);
    }
  }

  #finishCopy({ request, direction }: CopyDone): void {
    if (direction === 'out') {
      this.memory.copiedOut(request);
      this.scheduler.swappedOut(request);
    } else {
      this.memory.copiedIn(request);
      this.scheduler.swappedIn(request);
    }
  }

  #start(): void {
    if (this.#plans.prefill && this.#plans.decode) return;
    const now = this.#now;
    for (const plan of this.scheduler.plan(now * 1000)) {
      const load = new StepLoad();
      const bytes = this.memory.kvBytesPerToken();
      for (const { work, tokens, isPrompt } of plan.chunks) {
        if (isPrompt) load.addChunk(tokens, work.computedTokens, bytes, tokens === work.remainingTokens);
        else load.addDecode(work.computedTokens + 1, bytes);
      }
      this.#plans[plan.lane] = plan;
      this.device.start(plan.lane, load, plan.units, now);
    }
    this.#recordSplit();
  }

  #recordSplit(): void {
    const { prefill, decode } = this.#plans;
    const units = this.#options.setup.units;
    const value = prefill && decode ? prefill.units / units : Number.NaN;
    if (Object.is(value, this.#splitValue)) return;
    if (!Number.isNaN(this.#splitValue)) this.split.add(this.#splitSince, this.#now, this.#splitValue);
    this.#splitSince = this.#now;
    this.#splitValue = value;
  }
}

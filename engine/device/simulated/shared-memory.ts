import type { StepDemand } from './step-demand.js';
import type { Truth } from './truth.js';

/** A step on its way: which part of which round it is in, and how much of that is left. */
export class StepProgress {
  /** Seconds of the host before the device begins. */
  hostSeconds = 0;
  round = 0;
  part = 0;
  /** Seconds that the present part would still take alone. */
  left = 0;
  isDone = true;
  /** That each part has taken so far. */
  readonly partSeconds: Float64Array;

  constructor(readonly demand: StepDemand) {
    this.partSeconds = new Float64Array(demand.parts);
  }

  /** From the beginning of what `demand` says. */
  begin(hostSeconds: number): void {
    this.hostSeconds = hostSeconds;
    this.round = 0;
    this.part = -1;
    this.isDone = false;
    this.partSeconds.fill(0);
    this.next();
  }

  /** To its end, with nothing beside it. */
  finishAlone(): void {
    if (this.isDone) return;
    const { demand, partSeconds } = this;
    const head = demand.parts - 1;
    partSeconds[this.part]! += this.left;
    if (this.part !== head) {
      for (let index = 0; index < head; index++) {
        const rounds = demand.rounds - 1 - this.round + (index > this.part ? 1 : 0);
        partSeconds[index]! += demand.seconds[index]! * rounds;
      }
      partSeconds[head]! += demand.seconds[head]!;
    }
    this.isDone = true;
  }

  /** On to the next part that takes any time. */
  next(): void {
    const { demand } = this;
    const head = demand.parts - 1;
    this.left = 0;
    while (this.left === 0 && !this.isDone) {
      if (this.part === head) {
        this.isDone = true;
        return;
      }
      this.part++;
      if (this.part === head && this.round < demand.rounds - 1) {
        this.part = 0;
        this.round++;
      }
      this.left = demand.seconds[this.part]!;
    }
  }

  /** Seconds to its end if nothing else runs. */
  secondsAlone(): number {
    if (this.isDone) return 0;
    const { demand, part, round } = this;
    const head = demand.parts - 1;
    let seconds = this.hostSeconds + this.left;
    if (part === head) return seconds;
    let perRound = 0;
    for (let index = 0; index < head; index++) {
      perRound += demand.seconds[index]!;
      if (index > part) seconds += demand.seconds[index]!;
    }
    return seconds + perRound * (demand.rounds - 1 - round) + demand.seconds[head]!;
  }

  copyFrom(other: StepProgress): void {
    this.hostSeconds = other.hostSeconds;
    this.round = other.round;
    this.part = other.part;
    this.left = other.left;
    this.isDone = other.isDone;
    this.partSeconds.set(other.partSeconds);
  }

  /** Speed of the present part beside another lane's, as a share of its speed alone. */
  speedBeside(other: StepProgress, truth: Truth): number {
    if (this.hostSeconds > 0 || other.isDone || other.hostSeconds > 0) return 1;
    const own = this.demand.demand[this.part]!;
    const others = other.demand.demand[other.part]!;
    // Together they reach a little less than one alone can, but never less than either does by itself.
    const capacity = Math.max(
      truth.bandwidth * (1 - truth.mixLoss),
      this.demand.soloBandwidth,
      other.demand.soloBandwidth,
    );
    const crowding = Math.max(1, (own + others) / capacity);
    const cache = 1 + (truth.cacheLoss * (others / crowding)) / truth.bandwidth;
    return 1 / Math.max(crowding, this.demand.compute[this.part]! * cache);
  }
}

/**
 * Lets two lanes run beside each other for at most `limit` seconds, or until the first of them ends; returns the seconds
 * that passed. While both read memory, each draws in proportion to what it would draw alone. Speeds hold until either
 * lane reaches its next part, so what overlaps is found exactly, piece by piece.
 */
export function runTogether(a: StepProgress, b: StepProgress, truth: Truth, limit: number): number {
  let passed = 0;
  while (!a.isDone && !b.isDone && passed < limit) {
    const speedA = a.hostSeconds > 0 ? 1 : a.speedBeside(b, truth);
    const speedB = b.hostSeconds > 0 ? 1 : b.speedBeside(a, truth);
    const untilA = a.hostSeconds > 0 ? a.hostSeconds : a.left / speedA;
    const untilB = b.hostSeconds > 0 ? b.hostSeconds : b.left / speedB;
    const left = limit - passed;
    const seconds = Math.min(untilA, untilB, left);
    pass(a, seconds, speedA, untilA);
    pass(b, seconds, speedB, untilB);
    passed = seconds === left ? limit : passed + seconds;
  }
  return passed;
}

/** Lets the only lane run for `seconds`, which end before it does. */
export function runAlone(lane: StepProgress, seconds: number): void {
  let left = seconds;
  while (left > 0 && !lane.isDone) {
    const until = lane.hostSeconds > 0 ? lane.hostSeconds : lane.left;
    const step = Math.min(until, left);
    pass(lane, step, 1, until);
    left -= step;
  }
}

function pass(lane: StepProgress, seconds: number, speed: number, until: number): void {
  if (lane.hostSeconds > 0) {
    lane.hostSeconds = seconds === until ? 0 : lane.hostSeconds - seconds;
    return;
  }
  lane.partSeconds[lane.part]! += seconds;
  if (seconds === until) lane.next();
  else lane.left -= seconds * speed;
}

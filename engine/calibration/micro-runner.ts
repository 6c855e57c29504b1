import { type Device, type Step, type StepResult, Want } from '../device/device.js';
import { pageTokens } from '../kv/page-tokens.js';
import { greedySampling } from '../sampling/greedy.js';
import type { StepLoad } from '../scheduler/step-load.js';
import { loadOfShape, type MicroRun, maxChunks, type Shape } from './plan.js';
import type { LoadCounts, Sample } from './sample.js';

/** Tokens of one prompt that fills the pool: short, so that attention costs little. */
const poolPromptTokens = 512;
/** Tokens that decoding sequences may grow by before they start anew. */
const decodeRoom = 64;
/** Steps after which a run's median does not move any more. */
const enoughSteps = 45;

/** Slots a device needs for runs with so many decoding sequences: two sets of chunks, one at work and one prepared. */
export function slotsFor(maxSequences: number): number {
  return maxSequences + 2 * maxChunks;
}

/** Bytes of KV memory that runs with so many decoding sequences need beside the pool. */
export function kvBytesFor(maxSequences: number, maxStepTokens: number, kvBytesPerToken: number): number {
  const grown = maxSequences * (decodeRoom + 2 * pageTokens);
  const chunks = 2 * (maxStepTokens + maxChunks * pageTokens);
  return (grown + chunks + 2 * poolPromptTokens) * kvBytesPerToken;
}

interface TimedStep {
  readonly begin: number;
  readonly end: number;
  readonly load: StepLoad;
  readonly result: StepResult;
}

/**
 * Runs micro-runs on a device that nobody else uses. A sequence's past is put together from cached blocks of random
 * prompts, so that a long context costs no time; its contents make no difference to how long a step takes.
 */
export class MicroRunner {
  readonly #chunkSlots: readonly (readonly number[])[];
  readonly #decodeSlots: readonly number[];
  readonly #kvBytesPerToken: number;
  #nextBlock = 0;

  private constructor(
    private readonly device: Device,
    private readonly pool: Int32Array,
    private readonly clock: () => number,
  ) {
    const { slots } = device.info;
    const range = (begin: number, end: number) =>
      Array.from({ length: end - begin }, (_, index) => begin + index);
    this.#chunkSlots = [range(0, maxChunks), range(maxChunks, 2 * maxChunks)];
    this.#decodeSlots = range(2 * maxChunks, slots);
    this.#kvBytesPerToken = device.kv.blockBytes / device.kv.pageTokens;
  }

  /** Fills a pool of so many bytes, for at most `seconds`. `clock` is in seconds. */
  static async open(
    device: Device,
    poolBytes: number,
    seconds: number,
    clock: () => number,
  ): Promise<MicroRunner> {
    const { info, kv } = device;
    const blocks: number[] = [];
    const prompt = Math.min(
      poolPromptTokens,
      info.spec.contextLength - (info.spec.contextLength % kv.pageTokens),
    );
    const wanted = Math.ceil(poolBytes / kv.blockBytes);
    const begin = clock();
    device.partition(info.units);
    do {
      device.openSlot(0, greedySampling);
      try {
        reserve(device, 0, prompt);
        for (let done = 0; done < prompt; ) {
          const count = Math.min(info.maxStepTokens, prompt - done);
          await device.prefill.run({
            slots: Int32Array.of(0),
            counts: Int32Array.of(count),
            tokens: tokensOf(count, info.spec.vocab),
            wants: Uint8Array.of(Want.nothing),
          });
          done += count;
        }
        for (let index = 0; index < prompt / kv.pageTokens && blocks.length < wanted; index++) {
          blocks.push(kv.publish(0, index));
        }
      } finally {
        device.closeSlot(0);
      }
    } while (blocks.length < wanted && clock() - begin < seconds);
    return new MicroRunner(device, Int32Array.from(blocks), clock);
  }

  close(): void {
    this.device.kv.unpublish(this.pool);
  }

  /** Repeats the run's steps for about `seconds`; the median step of each lane. */
  async measure(run: MicroRun, seconds: number): Promise<Sample[]> {
    if (run.mode === 'alone') return [await this.#alone(run.shape, run.units, seconds)];
    return this.#together(run.prefill, run.decode, run.prefillUnits, seconds);
  }

  async #alone(shape: Shape, units: number, seconds: number): Promise<Sample> {
    const { device } = this;
    const holdsPrompts = shape.chunks.length > 0;
    device.partition(holdsPrompts ? units : device.info.units - units);
    const decoding = await this.#startDecode(shape, holdsPrompts ? 'prefill' : 'decode');
    const steps: TimedStep[] = [];
    try {
      const until = this.clock() + seconds;
      do {
        if (decoding.grown === decodeRoom) break;
        const chunks = this.#openChunks(shape, 0);
        try {
          const step = joined(chunks, decoding.step);
          const load = loadOfShape(shape, decoding.grown, this.#kvBytesPerToken);
          steps.push(await this.#time(holdsPrompts ? 'prefill' : 'decode', step, load));
          decoding.grown++;
        } finally {
          this.#close(chunks.slots);
        }
      } while (this.clock() < until && steps.length < enoughSteps);
    } finally {
      this.#close(decoding.step.slots);
    }
    // The first ones find cold caches, and threads asleep.
    return sampleOf(steps.slice(steps.length / 3), units, null);
  }

  async #together(prefill: Shape, decode: Shape, prefillUnits: number, seconds: number): Promise<Sample[]> {
    const { device } = this;
    const { units } = device.info;
    device.partition(prefillUnits);
    const until = this.clock() + seconds;
    const read: TimedStep[] = [];
    const written: TimedStep[] = [];
    let failed = false;
    const isDone = () => failed || (this.clock() > until && read.length >= 3 && written.length >= 3);
    const readPrompts = async () => {
      let next = this.#openChunks(prefill, 0);
      try {
        for (let turn = 1; !isDone(); turn++) {
          const now = next;
          const load = loadOfShape(prefill, 0, this.#kvBytesPerToken);
          const running = this.#time('prefill', now, load);
          // While this step runs, the next one is prepared: the lane stays busy.
          next = this.#openChunks(prefill, turn % 2);
          try {
            read.push(await running);
          } finally {
            this.#close(now.slots);
          }
        }
      } finally {
        this.#close(next.slots);
      }
    };
    const writeAnswers = async () => {
      while (!isDone()) {
        const decoding = await this.#startDecode(decode, 'decode');
        try {
          for (; decoding.grown < decodeRoom && !isDone(); decoding.grown++) {
            const load = loadOfShape(decode, decoding.grown, this.#kvBytesPerToken);
            written.push(await this.#time('decode', decoding.step, load));
          }
        } finally {
          this.#close(decoding.step.slots);
        }
      }
    };
    const fail = (error: unknown) => {
      failed = true;
      throw error;
    };
    const ends = await Promise.allSettled([readPrompts().catch(fail), writeAnswers().catch(fail)]);
    for (const end of ends) if (end.status === 'rejected') throw end.reason;
    const prefillSteps = within(read, written);
    const decodeSteps = within(written, read);
    if (prefillSteps.length === 0 || decodeSteps.length === 0) return [];
    const prefillLoad = loadOfShape(prefill, 0, this.#kvBytesPerToken);
    const { load: decodeLoad } = decodeSteps[Math.floor(decodeSteps.length / 2)]!;
    return [
      sampleOf(prefillSteps, prefillUnits, { load: counts(decodeLoad), units: units - prefillUnits }),
      sampleOf(decodeSteps, units - prefillUnits, { load: counts(prefillLoad), units: prefillUnits }),
    ];
  }

  async #time(lane: 'prefill' | 'decode', step: Step, load: StepLoad): Promise<TimedStep> {
    const begin = this.clock();
    const result = await this.device[lane].run(step);
    return { begin, end: this.clock(), load, result };
  }

  #openChunks({ chunks }: Shape, set: number): Step {
    const slots = this.#chunkSlots[set]!.slice(0, chunks.length);
    for (const [index, { tokens, context }] of chunks.entries()) this.#open(slots[index]!, context, tokens);
    const total = chunks.reduce((sum, { tokens }) => sum + tokens, 0);
    return {
      slots: Int32Array.from(slots),
      counts: Int32Array.from(chunks, ({ tokens }) => tokens),
      tokens: tokensOf(total, this.device.info.spec.vocab),
      wants: new Uint8Array(chunks.length).fill(Want.sample),
    };
  }

  /** Opens the shape's decoding sequences and lets each sample its first token. */
  async #startDecode(shape: Shape, lane: 'prefill' | 'decode'): Promise<{ step: Step; grown: number }> {
    const { sequences, context } = shape;
    const slots = Int32Array.from(this.#decodeSlots.slice(0, sequences));
    const step: Step = {
      slots,
      counts: new Int32Array(sequences),
      tokens: new Int32Array(),
      wants: new Uint8Array(sequences).fill(Want.sample),
    };
    if (sequences === 0) return { step, grown: 0 };
    for (const slot of slots) this.#open(slot, context, decodeRoom + 1);
    await this.device[lane].run({
      ...step,
      counts: new Int32Array(sequences).fill(1),
      tokens: tokensOf(sequences, this.device.info.spec.vocab),
    });
    return { step, grown: 1 };
  }

  /** A sequence with a past of `context` tokens and room for `room` more. */
  #open(slot: number, context: number, room: number): void {
    const { device, pool } = this;
    device.openSlot(slot, greedySampling);
    const blocks = new Int32Array(context / device.kv.pageTokens);
    for (let index = 0; index < blocks.length; index++) {
      blocks[index] = pool[this.#nextBlock]!;
      this.#nextBlock = (this.#nextBlock + 1) % pool.length;
    }
    if (blocks.length > 0) device.kv.attach(slot, blocks);
    reserve(device, slot, context + room);
  }

  #close(slots: Iterable<number>): void {
    for (const slot of slots) this.device.closeSlot(slot);
  }
}

function reserve(device: Device, slot: number, tokens: number): void {
  if (device.kv.reserve(slot, tokens)) return;
  const { totalBlocks, blockBytes } = device.kv;
  throw new RangeError(
    `no room for a sequence of ${tokens} tokens in ${Math.round((totalBlocks * blockBytes) / 2 ** 20)} MiB of KV memory`,
  );
}

/** Ids that are spread over the vocabulary, so that their embeddings are not in a cache. */
function tokensOf(count: number, vocab: number): Int32Array {
  return Int32Array.from({ length: count }, (_, index) => (index * 7919 + 17) % vocab);
}

function joined(a: Step, b: Step): Step {
  return {
    slots: Int32Array.from([...a.slots, ...b.slots]),
    counts: Int32Array.from([...a.counts, ...b.counts]),
    tokens: Int32Array.from([...a.tokens, ...b.tokens]),
    wants: Uint8Array.from([...a.wants, ...b.wants]),
  };
}

/** Of the steps those during which the other lane had begun already and had not yet ended. */
function within(steps: readonly TimedStep[], others: readonly TimedStep[]): TimedStep[] {
  if (others.length === 0) return [];
  return steps.filter(({ begin, end }) => begin >= others[0]!.begin && end <= others.at(-1)!.end);
}

function sampleOf(steps: readonly TimedStep[], units: number, other: Sample['other']): Sample {
  const bySeconds = [...steps].sort((a, b) => a.result.seconds - b.result.seconds);
  const { load, result } = bySeconds[Math.floor((bySeconds.length - 1) / 2)]!;
  return {
    load: counts(load),
    units,
    other,
    seconds: result.seconds,
    ...(result.opSeconds && { opSeconds: [...result.opSeconds] }),
  };
}

function counts(load: StepLoad): LoadCounts {
  return { ...load };
}

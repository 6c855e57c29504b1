import {
  type BornClass,
  type Device,
  type FollowingStep,
  type KvPool,
  type Lane,
  pageClasses,
  type Step,
  type StepResult,
  type SwappedKv,
  Want,
} from '../../engine/device/device.js';
import { bytesOfBlock, type PackedForm } from '../../engine/kv/page-classes.js';
import type { SeenPages } from '../../engine/kv/sparse-prefill.js';
import type { ModelSpec } from '../../engine/model/model-spec.js';
import {
  attentionOf,
  int8,
  layers,
  packedValue,
  pageTokens,
  readBy,
  valueBehind,
  vocab,
  writtenValue,
} from './hashing-values.js';

/** A page of all layers: what its tokens stand for, and what form they have, layer by layer. */
interface Block {
  readonly classes: Uint8Array;
  readonly values: number[];
  owners: number;
}

interface Slot {
  blocks: Block[];
  length: number;
  last: number;
  /** That it is in: one that runs, and one that waits. */
  steps: number;
  isLeaving: boolean;
  conversion: { begin: number; made: Block[]; isWritten: boolean; hasTail: boolean } | null;
}

const exact = new Uint8Array(layers);
const int8Place = pageClasses.indexOf('int8');
const int4Place = pageClasses.indexOf('int4');
const farPlace = pageClasses.indexOf('far');

function must(holds: boolean, what: string): asserts holds {
  if (!holds) throw new Error(`the device was misused: ${what}`);
}

/** Of each run of probes, over its rows. */
function saliencyOf(
  probes: Int32Array,
  entries: readonly { position: number; values: readonly number[] }[],
): Uint32Array[] {
  return Array.from({ length: probes.length / 3 }, (_, run) => {
    const [entry, row, count] = probes.subarray(3 * run, 3 * run + 3);
    const { position, values } = entries[entry!]!;
    must(row! + count! <= values.length, 'rows are probed that a step does not have');
    const pages = Math.floor((position + row! + count! - 1) / pageTokens) + 1;
    const sums = new Uint32Array(layers * pages);
    for (let at = row!; at < row! + count!; at++) {
      const own = attentionOf(values[at]!, position + at);
      const width = own.length / layers;
      for (const [place, units] of own.entries())
        sums[Math.floor(place / width) * pages + (place % width)]! += units;
    }
    return sums;
  });
}

/** By entry. */
function seenPages(sparse: Step['sparse']): Map<number, SeenPages> {
  const seen = new Map<number, SeenPages>();
  let at = 0;
  for (let pair = 0; sparse && pair < sparse.pages.length; pair += 2) {
    const [entry, pages] = sparse.pages.subarray(pair, pair + 2);
    const isSeen = sparse.isSeen.slice(at, at + layers * pages!);
    at += isSeen.length;
    seen.set(entry!, { pages: pages!, isSeen, tokens: 0 });
  }
  return seen;
}

/**
 * A device whose answers are hashes of all that its steps read, so that one token of another form anywhere shows. Memory
 * is counted in bytes. Steps, copies and conversions end when the test says so. Throws at whatever no device could do.
 */
export class HashingDevice implements Device {
  readonly info: Device['info'];
  readonly prefill: Lane = { run: (step) => this.runStep(step) };
  readonly decode: Lane = {
    run: (step) => this.#decode(step),
    follow: (slots) => this.#follow(slots),
  };
  readonly kv: KvPool;
  /** What runs: each call ends one. */
  readonly pending: (() => void)[] = [];
  /** Whether any block was ever to be packed. */
  hasPacked = false;
  /** Steps that waited for another and have begun when that ended. */
  followed = 0;
  /** Times that blocks were moved together. */
  compacted = 0;
  /** Tokens that were sampled. */
  sampled = 0;
  /** What a step that ends fails with; undefined: it does not. */
  stepFault: () => Error | undefined = () => undefined;
  readonly #slots = new Map<number, Slot>();
  readonly #published = new Map<number, Block>();
  readonly #held = new Set<Block>();
  /** Of smaller blocks that were given back: of use to smaller ones alone, until they are moved or all of those are gone. */
  #scatteredBytes = 0;
  /** Of what is swapped, the blocks that are far: these stay where they are. */
  readonly #swappedFar = new Map<object, number>();
  #nextId = 0;
  /** Begins what waits for the decode lane's step; null: none runs. */
  #onDecoded: (() => void) | null = null;

  constructor(
    blocks: number,
    slots: number,
    forms: readonly PackedForm[],
    recent?: BornClass,
    farBlocks = 0,
  ) {
    const classBlockBytes = { bf16: 4096, int8: 2048, int4: 1152, int2: 640, far: 160 };
    this.info = {
      kind: 'simulated',
      name: 'hashes',
      isa: 'none',
      units: 2,
      weightBytes: 0,
      kvBytes: blocks * classBlockBytes.bf16,
      slots,
      maxStepTokens: 96,
      spec: { vocab, layers } as ModelSpec,
    };
    const { kvBytes } = this.info;
    const free = () => kvBytes - this.heldBytes - this.#scatteredBytes;
    const bytesOf = (classes: Uint8Array) => bytesOfBlock(this.kv, classes);
    const fits = (all: readonly Uint8Array[]): boolean => {
      const smaller = all.filter((classes) => classes !== exact).reduce((sum, one) => sum + bytesOf(one), 0);
      const exactBytes = all.filter((classes) => classes === exact).length * classBlockBytes.bf16;
      return exactBytes <= free() && exactBytes + smaller <= free() + this.#scatteredBytes;
    };
    const isFar = ({ classes }: { classes: Uint8Array }) => classes[0] === farPlace;
    const take = (all: readonly Uint8Array[]): Block[] | null => {
      if (!fits(all)) return null;
      if (all.filter((classes) => isFar({ classes })).length > this.kv.freeFarBlocks()) return null;
      return all.map((classes) => this.#add({ classes, values: [], owners: 1 }));
    };
    const takeExact = (count: number) => take(Array.from({ length: count }, () => exact));
    this.kv = {
      pageTokens,
      precision: 'bf16',
      blockBytes: classBlockBytes.bf16,
      classBlockBytes,
      totalBlocks: blocks,
      chunkPages: layers,
      chunkBlocks: 1,
      farBlocks,
      freeBlocks: () => Math.floor(free() / classBlockBytes.bf16),
      freeFarBlocks: () => farBlocks - this.farBlocks,
      compact: (count) => {
        const inBlocks = (bytes: number) => Math.floor(bytes / classBlockBytes.bf16);
        if (inBlocks(free() + this.#scatteredBytes) - inBlocks(free()) < count) return false;
        const isBusy = ({ steps, isLeaving, conversion }: Slot) =>
          steps > 0 || isLeaving || conversion !== null;
        if ([...this.#slots.values()].some(isBusy)) return false;
        this.#scatteredBytes = 0;
        this.compacted++;
        return true;
      },
      heldBytes: () => {
        const bytes = { bf16: 0, int8: 0, int4: 0, int2: 0, far: 0 };
        for (const place of [...this.#held].flatMap(({ classes }) => [...classes])) {
          const name = pageClasses[place]!;
          if (name !== 'none') bytes[name] += classBlockBytes[name] / layers;
        }
        return bytes;
      },
      reserve: (slot, tokens, born = 'bf16') => {
        const { blocks, isLeaving } = this.#slots.get(slot)!;
        must(!isLeaving, 'room is made for a slot on its way');
        const missing = Math.max(0, Math.ceil(tokens / pageTokens) - blocks.length);
        const taken = take(Array.from({ length: missing }, () => (born === 'int8' ? int8 : exact)));
        if (taken) blocks.push(...taken);
        return taken !== null;
      },
      length: (slot) => this.#slots.get(slot)!.length,
      publish: (slot, index) => {
        const { blocks, length } = this.#idle(slot);
        must((index + 1) * pageTokens <= length, 'a block is published that is not full');
        this.#published.set(this.#nextId, this.#share(blocks[index]!));
        return this.#nextId++;
      },
      attach: (slot, ids, droppedTokens = 0) => {
        const state = this.#idle(slot);
        must(state.blocks.length === 0, 'a slot is attached to that is not empty');
        must(droppedTokens % pageTokens === 0, 'a part of a page was dropped');
        state.blocks = Array.from(ids, (id) => this.#share(this.#published.get(id)!));
        state.length = ids.length * pageTokens;
      },
      unpublish: (ids) => {
        for (const id of ids) {
          this.#drop(this.#published.get(id)!);
          this.#published.delete(id);
        }
      },
      fork: (from, to, tokens) => {
        const source = this.#alone(from);
        const target = this.#alone(to);
        const shared = Math.floor(tokens / pageTokens);
        const last = takeExact(tokens % pageTokens === 0 ? 0 : 1);
        if (!last) return false;
        target.blocks = source.blocks.slice(0, shared).map((block) => this.#share(block));
        for (const block of last) {
          must(source.blocks[shared]!.classes === exact, 'a fork ends in a packed block');
          block.values.push(...source.blocks[shared]!.values.slice(0, tokens % pageTokens));
          target.blocks.push(block);
        }
        target.length = tokens;
        return true;
      },
      replace: (slot, index, id) => {
        const { blocks, length } = this.#alone(slot);
        const block = this.#published.get(id)!;
        must((index + 1) * pageTokens <= length, 'a block is replaced that is not full');
        this.#share(block);
        this.#drop(blocks[index]!);
        blocks[index] = block;
      },
      convert: (slot, begin, end, classes) => {
        const names = [...forms.flatMap(({ high, low }) => [high, low]), ...(recent ? [recent] : [])];
        if (farBlocks > 0) names.push('far');
        const allowed = names.map((name) => pageClasses.indexOf(name));
        must(
          classes.every((place) => allowed.includes(place)),
          'another class than those of the settings',
        );
        must(classes.length === (end - begin) * layers, 'a page has no class');
        const state = this.#alone(slot);
        const from = state.blocks.slice(begin, end);
        const hasTail = end * pageTokens > state.length;
        must(
          begin < end && (!hasTail || classes.subarray(-layers).every((place) => place === int8Place)),
          'blocks are packed that are not full',
        );
        must(
          (end - 1) * pageTokens < state.length && !(hasTail && state.steps > 0),
          'blocks are converted that are not there',
        );
        const places = from.flatMap((block) => [...block.classes]);
        const becomesFar = classes[0] === farPlace;
        must(
          places.every((place, at) =>
            becomesFar
              ? place === int4Place && classes[at] === farPlace
              : place <= int8Place && place < classes[at]!,
          ),
          'a packed page is packed again, or one that is not becomes far',
        );
        const made = take(from.map((_, at) => classes.slice(at * layers, (at + 1) * layers)));
        if (!made) return null;
        this.hasPacked = true;
        const conversion = { begin, made, isWritten: false, hasTail };
        state.conversion = conversion;
        return this.#later(() => {
          for (const [index, block] of made.entries()) {
            const { values } = from[index]!;
            // The same bytes elsewhere.
            block.values.push(
              ...(becomesFar ? values : values.map((value) => packedValue(value, block.classes))),
            );
          }
          conversion.isWritten = true;
        });
      },
      finishConversion: (slot) => {
        const state = this.#idle(slot);
        const { begin, made } = this.#endConversion(state);
        made.forEach((block, index) => {
          this.#drop(state.blocks[begin + index]!);
          state.blocks[begin + index] = block;
        });
      },
      dropConversion: (slot) => {
        for (const block of this.#endConversion(this.#idle(slot)).made) this.#drop(block);
      },
      drop: (slot, begin, end) => {
        const state = this.#alone(slot);
        must(begin <= end && end * pageTokens <= state.length, 'blocks are dropped that are not full');
        for (const block of state.blocks.splice(begin, end - begin)) this.#drop(block);
        state.length -= (end - begin) * pageTokens;
      },
      swapOut: (slot) => {
        const state = this.#alone(slot);
        state.isLeaving = true;
        return this.#later(() => {
          const used = state.blocks.slice(0, Math.ceil(state.length / pageTokens));
          const content = used.map(({ classes, values }) => ({ classes, values: [...values] }));
          const bytes = used.reduce((sum, { classes }) => sum + bytesOf(classes), 0);
          for (const block of state.blocks) this.#drop(block);
          const swapped = {
            tokens: state.length,
            bytes,
            release: () => {
              this.#swappedFar.delete(content);
            },
            content,
          };
          this.#swappedFar.set(content, content.filter(isFar).length);
          Object.assign(state, { blocks: [], length: 0, isLeaving: false });
          return swapped as SwappedKv;
        });
      },
      swapIn: async (slot, swapped) => {
        const state = this.#alone(slot);
        const { content, tokens } = swapped as SwappedKv & { content: Omit<Block, 'owners'>[] };
        if (!fits(content.map(({ classes }) => classes))) return false;
        this.#swappedFar.delete(content);
        state.blocks = content.map((block) => this.#add({ ...block, values: [...block.values], owners: 1 }));
        state.length = tokens;
        state.isLeaving = true;
        return this.#later(() => {
          state.isLeaving = false;
          return true;
        });
      },
    };
  }

  /** Blocks that have a place in host memory, swapped ones too. */
  get farBlocks(): number {
    let blocks = 0;
    for (const far of this.#swappedFar.values()) blocks += far;
    for (const { classes } of this.#held) if (classes[0] === farPlace) blocks++;
    return blocks;
  }

  get heldBytes(): number {
    let bytes = 0;
    for (const { classes } of this.#held) bytes += bytesOfBlock(this.kv, classes);
    return bytes;
  }

  partition(): void {}

  setVocabulary(): void {}

  openGrammar(): number {
    throw new Error('hashes follow no grammar');
  }

  closeGrammar(): void {}

  openSlot(slot: number): void {
    must(!this.#slots.has(slot), 'a slot is opened twice');
    const empty = { blocks: [], length: 0, last: -1, steps: 0, isLeaving: false, conversion: null };
    this.#slots.set(slot, empty);
  }

  closeSlot(slot: number): void {
    for (const block of this.#alone(slot).blocks) this.#drop(block);
    this.#slots.delete(slot);
  }

  async close(): Promise<void> {
    must(this.pending.length === 0, 'it is closed while something runs');
  }

  #decode(step: Step): Promise<StepResult> {
    must(this.#onDecoded === null, 'the decode lane is busy');
    this.#onDecoded = () => {};
    const result = this.runStep(step);
    const end = this.pending.pop()!;
    this.pending.push(() => {
      end();
      const next = this.#onDecoded!;
      this.#onDecoded = null;
      next();
    });
    return result;
  }

  #follow(slots: Int32Array): FollowingStep {
    const states = Array.from(slots, (slot) => this.#slots.get(slot)!);
    for (const { steps, isLeaving } of states) must(steps < 2 && !isLeaving, 'a step follows that may not');
    const step = {
      slots,
      counts: new Int32Array(slots.length),
      tokens: new Int32Array(),
      wants: new Uint8Array(slots.length).fill(Want.sample),
    };
    for (const state of states) state.steps++;
    let withdraw!: () => boolean;
    const result = new Promise<StepResult | null>((resolve, reject) => {
      const begin = (): void => {
        withdraw = () => false;
        for (const state of states) state.steps--;
        this.followed++;
        this.#decode(step).then(resolve, reject);
      };
      withdraw = () => {
        this.#onDecoded = () => {};
        for (const state of states) state.steps--;
        withdraw = () => false;
        resolve(null);
        return true;
      };
      if (this.#onDecoded) this.#onDecoded = begin;
      else begin();
    });
    return { result, withdraw: () => withdraw() };
  }

  protected runStep({ slots, counts, tokens, wants, probes, sparse }: Step): Promise<StepResult> {
    const seen = seenPages(sparse);
    let next = 0;
    const entries = Array.from(slots, (slot, entry) => {
      const state = this.#idle(slot);
      must(!state.conversion?.hasTail, 'a step writes to a page that is being converted');
      const count = counts[entry]!;
      const own = count === 0 ? [state.last] : [...tokens.subarray(next, next + count)];
      next += count;
      must(state.length + own.length <= state.blocks.length * pageTokens, 'a step has no room');
      state.steps++;
      const position = state.length;
      must((seen.get(entry)?.pages ?? 0) * pageTokens <= position, 'a sparse entry tells of its own pages');
      const held: number[] = [];
      for (const block of state.blocks) held.push(...block.values);
      const read = readBy(seen.get(entry), held.slice(0, position));
      const values: number[] = [];
      for (const [index, token] of own.entries()) {
        const value = valueBehind(token, read);
        values.push(value);
        read.push(writtenValue(value, state.blocks[Math.floor((position + index) / pageTokens)]!.classes));
      }
      return { state, position, values, samples: (wants[entry]! & Want.sample) !== 0 };
    });
    return this.#later<StepResult>(() => {
      const fault = this.stepFault();
      if (fault) {
        for (const { state } of entries) state.steps--;
        return Promise.reject(fault);
      }
      const sampled = entries.map(({ state, values, samples }) => {
        state.steps--;
        for (const value of values) {
          const block = state.blocks[Math.floor(state.length / pageTokens)]!;
          must(
            block.classes.every((place) => place <= int8Place) && block.owners === 1,
            'a step writes to a shared or packed block',
          );
          block.values[state.length++ % pageTokens] = writtenValue(value, block.classes);
        }
        if (samples) {
          state.last = values.at(-1)! % vocab;
          this.sampled++;
        }
        return samples ? state.last : -1;
      });
      return {
        tokens: Int32Array.from(sampled),
        logprobs: new Float32Array(sampled.length),
        topLogprobs: new Map(),
        promptLogprobs: new Map(),
        logits: new Map(),
        saliency: saliencyOf(probes ?? new Int32Array(), entries),
        seconds: 0.01,
        opSeconds: new Float64Array(4),
      };
    });
  }

  #later<T>(end: () => T | Promise<T>): Promise<T> {
    return new Promise((resolve) => this.pending.push(() => resolve(end())));
  }

  #idle(slot: number): Slot {
    const state = this.#slots.get(slot);
    must(state !== undefined && state.steps === 0 && !state.isLeaving, 'a slot in flight is changed');
    return state;
  }

  #alone(slot: number): Slot {
    const state = this.#idle(slot);
    must(state.conversion === null, 'a slot is changed that is being converted');
    return state;
  }

  #endConversion(state: Slot) {
    const { conversion } = state;
    must(conversion?.isWritten ?? false, 'a conversion ends before it is done');
    state.conversion = null;
    return conversion!;
  }

  #add(block: Block): Block {
    this.#held.add(block);
    const scattered = block.classes === exact ? 0 : bytesOfBlock(this.kv, block.classes);
    this.#scatteredBytes -= Math.min(scattered, this.#scatteredBytes);
    return block;
  }

  #share(block: Block): Block {
    must(block.owners > 0, 'a free block is shared');
    block.owners++;
    return block;
  }

  #drop(block: Block): void {
    must(block.owners > 0, 'a block is given back too often');
    if (--block.owners > 0) return;
    this.#held.delete(block);
    if (block.classes !== exact) this.#scatteredBytes += bytesOfBlock(this.kv, block.classes);
    if ([...this.#held].every(({ classes }) => classes === exact)) this.#scatteredBytes = 0;
  }
}

import { describe, expect, it } from 'vitest';
import { SimulatedSequence } from '../../../engine/device/simulated/sequence.js';
import { SimulatedMemory } from '../../../engine/device/simulated/simulated-memory.js';
import fc from '../../support/fast-check.js';

function memoryOf(pages: number, slots = 64) {
  const copies: { work: SimulatedSequence; direction: 'out' | 'in' }[] = [];
  const memory = new SimulatedMemory<SimulatedSequence>({
    kvBytes: pages * 32 * 10,
    bytesPerToken: 10,
    hostBytes: 32 * 10 * 20,
    slots,
    blockTokens: 512,
    copy: (work, direction) => copies.push({ work, direction }),
  });
  return { memory, copies };
}

let serial = 0;
const sequence = (prompt: number, hashes: number[] = []) =>
  new SimulatedSequence(serial++, 0, prompt, 10, hashes);

describe('the simulated KV memory', () => {
  it('takes pages as tokens come, and no more than there are', () => {
    const { memory } = memoryOf(4);
    const work = sequence(100);
    expect(memory.admit(work, 28)).toBe(true);
    expect(memory.usedPages).toBe(0);
    expect(memory.reserve(work, 33)).toBe(true);
    expect(memory.usedPages).toBe(2);
    expect(memory.usage()).toBe(0.5);
    expect(memory.reserve(work, 129)).toBe(false);
    expect(memory.usedPages).toBe(2);
    memory.release(work);
    expect(memory.usedPages).toBe(0);
    expect(memory.openSlots()).toBe(0);
  });

  it('admits nobody who would not fit, and nobody without a slot', () => {
    const { memory } = memoryOf(4, 1);
    expect(memory.admit(sequence(100), 29)).toBe(false);
    expect(memory.admit(sequence(10), 1)).toBe(true);
    expect(memory.admit(sequence(10), 1)).toBe(false);
  });

  it('finds the blocks of an earlier prompt, up to where they differ', () => {
    const { memory } = memoryOf(200);
    const first = sequence(1300, [1, 2, 3]);
    memory.admit(first, 1);
    memory.reserve(first, 1300);
    memory.publish(first);
    const second = sequence(1700, [1, 2, 9, 10]);
    expect(memory.cachedTokens(second)).toBe(1024);
    memory.admit(second, 1);
    expect(second.computedTokens).toBe(1024);
    memory.reserve(second, 1700);
    // 41 pages of the first, of which 32 are shared, and 22 of the second's own.
    expect(memory.usedPages).toBe(41 + 54 - 32);
    expect(memory.cache.hitTokens).toBe(1024);
  });

  it('leaves one token of a cached prompt to be computed', () => {
    const { memory } = memoryOf(100);
    const first = sequence(1024, [1, 2]);
    memory.admit(first, 1);
    memory.reserve(first, 1024);
    memory.publish(first);
    expect(memory.cachedTokens(sequence(1024, [1, 2]))).toBe(512);
  });

  it('gives up cached blocks that nobody uses, the least recently used first', () => {
    const { memory } = memoryOf(40);
    for (const hash of [1, 2]) {
      const work = sequence(513, [hash]);
      memory.admit(work, 1);
      memory.reserve(work, 513);
      memory.publish(work);
      memory.release(work);
    }
    expect(memory.usage()).toBe(0);
    expect(memory.usedPages).toBe(32);
    const large = sequence(700);
    expect(memory.admit(large, 4)).toBe(true);
    expect(memory.reserve(large, 700)).toBe(true);
    expect(memory.cachedTokens(sequence(600, [1]))).toBe(0);
    expect(memory.cachedTokens(sequence(600, [2]))).toBe(512);
  });

  it('is never above its budget and ends empty, whatever comes', () => {
    const operation = fc.record({
      kind: fc.constantFrom('admit', 'grow', 'publish', 'swap', 'release'),
      pick: fc.nat(100),
      tokens: fc.integer({ min: 1, max: 1500 }),
      hashes: fc.array(fc.integer({ min: 1, max: 4 }), { maxLength: 1 }),
    });
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 80 }), (operations) => {
        const { memory, copies } = memoryOf(60, 5);
        const open: SimulatedSequence[] = [];
        for (const { kind, pick, tokens, hashes } of operations) {
          const work = open[pick % Math.max(1, open.length)];
          if (kind === 'admit') {
            const next = sequence(tokens, hashes);
            if (memory.admit(next, 1)) open.push(next);
          } else if (work && kind === 'grow') {
            const grown = Math.min(work.tokenCount, work.computedTokens + tokens);
            if (memory.reserve(work, grown)) work.computedTokens = grown;
          } else if (work && kind === 'publish' && work.computedTokens === work.promptTokens)
            memory.publish(work);
          else if (work && kind === 'swap' && memory.canSwap(work)) {
            memory.swapOut(work);
            memory.copiedOut(work);
            if (memory.swapIn(work, 1)) memory.copiedIn(work);
            else {
              memory.dropSwapped(work);
              open.splice(open.indexOf(work), 1);
            }
          } else if (work && kind === 'release') {
            memory.release(work);
            open.splice(open.indexOf(work), 1);
          }
          expect(memory.usedPages).toBeLessThanOrEqual(memory.totalPages);
          expect(memory.openSlots()).toBe(open.length);
          expect(memory.usedHostPages).toBe(0);
        }
        for (const work of open) memory.release(work);
        expect(memory.usage()).toBe(0);
        expect(memory.usedPages).toBe(memory.cache.blocks * 16);
        expect(copies.filter(({ direction }) => direction === 'in').length).toBeLessThanOrEqual(
          copies.length / 2,
        );
      }),
    );
  });
});

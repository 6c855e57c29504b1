import { describe, expect, it } from 'vitest';
import type { Settings } from '../../config/schema.js';
import { type RetrievalCase, retrievalCases } from '../support/demo.js';
import { testServer } from '../support/server.js';

/**
 * Exact answers by length, as `models/demo/README.md` has them for float32 arithmetic: of 80 cases, and of the longest, which
 * take most of the time, of the 40 dense ones, which are the harder half.
 */
const card = new Map([
  [128, 0.988],
  [256, 0.912],
  [512, 0.925],
  [1024, 0.775],
  [2048, 0.575],
]);

const allCases = retrievalCases();

function casesOf(length: number): RetrievalCase[] {
  const cases = allCases.filter((one) => one.length === length);
  return length < 1024 ? cases : cases.filter((_, index) => index % 2 === 0);
}

/** The part of the cases that a server answers exactly, by length. */
async function accuracyOf(
  settings: { weights?: Settings['model']['weights']; kv?: Settings['engine']['kv'] },
  lengths: readonly number[],
): Promise<Map<number, number>> {
  const { weights = 'int8', kv = 'exact' } = settings;
  const server = await testServer({ model: { weights }, engine: { maxSequences: 16, kv } });
  const right = new Map(lengths.map((length) => [length, 0]));
  const cases = lengths.flatMap(casesOf);
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let i = next++; i < cases.length; i = next++) {
      const { messages, answer, length } = cases[i]!;
      const response = await server.post('/v1/chat/completions', { messages });
      const { choices } = (await response.json()) as { choices: { message: { content: string } }[] };
      if (choices[0]!.message.content.trim() === answer) right.set(length, right.get(length)! + 1);
    }
  };
  await Promise.all(Array.from({ length: 16 }, worker));
  await server.close();
  return new Map([...right].map(([length, count]) => [length, count / casesOf(length).length]));
}

describe('retrieval through the API', () => {
  // The longest lengths take most of the time, so one class of weights has them all.
  for (const [weights, lengths] of [
    ['bf16', [128, 256, 512]],
    ['int8', [...card.keys()]],
  ] as const) {
    it(`equals the model card (${weights} weights)`, async () => {
      const found = await accuracyOf({ weights }, lengths);
      // A case is 1.25 points, or 2.5; rounding to bf16 or int8 turns a few near ties, either way.
      for (const [length, accuracy] of found) {
        expect(Math.abs(accuracy - card.get(length)!), `length ${length}`).toBeLessThanOrEqual(0.051);
      }
    }, 600_000);
  }

  // The first token of an answer is chosen behind the exact prompt, the others behind the packed one.
  it('is as good with int4 KV, and little worse with int2', async () => {
    const int4 = await accuracyOf({ kv: 'int4' }, [512]);
    const int2 = await accuracyOf({ kv: 'int2' }, [512]);
    for (const [length, accuracy] of int4) {
      expect(Math.abs(accuracy - card.get(length)!), `int4, length ${length}`).toBeLessThanOrEqual(0.051);
    }
    for (const [length, accuracy] of int2) {
      expect(accuracy, `int2, length ${length}`).toBeGreaterThan(card.get(length)! - 0.1);
    }
  }, 600_000);
});

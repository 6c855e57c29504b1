import { describe, expect, it } from 'vitest';
import { retrievalCases } from '../support/demo.js';
import { testServer } from '../support/server.js';

/** Exact answers of 80 cases a length, as `models/demo/README.md` has them for float32 arithmetic. */
const card = new Map([
  [128, 0.988],
  [256, 0.912],
  [512, 0.925],
  [1024, 0.862],
  [2048, 0.725],
]);

describe('retrieval through the API', () => {
  for (const weights of ['bf16', 'int8'] as const) {
    it(`equals the model card (${weights} weights)`, async () => {
      const server = await testServer({ model: { weights }, engine: { maxSequences: 16 } });
      const right = new Map<number, number>();
      const cases = retrievalCases();
      let next = 0;
      const worker = async (): Promise<void> => {
        for (let i = next++; i < cases.length; i = next++) {
          const { messages, answer, length } = cases[i]!;
          const response = await server.post('/v1/chat/completions', { messages });
          const { choices } = (await response.json()) as { choices: { message: { content: string } }[] };
          if (choices[0]!.message.content.trim() === answer) right.set(length, (right.get(length) ?? 0) + 1);
        }
      };
      await Promise.all(Array.from({ length: 16 }, worker));
      await server.close();
      // A case is 1.25 points; rounding to bf16 or int8 turns a few near ties, either way.
      for (const [length, accuracy] of card) {
        expect(Math.abs((right.get(length) ?? 0) / 80 - accuracy), `length ${length}`).toBeLessThanOrEqual(
          0.051,
        );
      }
    }, 600_000);
  }
});

import { afterEach, describe, expect, it } from 'vitest';
import { eventually, type TestServer, testServer } from '../support/server.js';
import { expectNothingLeaked, expectOthersServed, isLong } from './support.js';

let server: TestServer | undefined;
afterEach(async () => {
  await server?.close();
  server = undefined;
});

describe('more is asked than there are pages', () => {
  it('gives every one the answer that it gets alone, refuses the rest, and keeps none', async () => {
    // Some three of these fit at once.
    const exhausted = await testServer({ engine: { kvMemory: 4 << 20, maxSequences: 32, maxQueue: 16 } });
    server = exhausted;
    const bodyOf = (i: number) => ({
      prompt: `${i}: ${'The blue bicycle belongs to Anna. '.repeat(12)}`,
      max_tokens: 120,
      ignore_eos: true,
      temperature: 1,
      seed: i,
    });
    const textOf = async (answer: Response) =>
      ((await answer.json()) as { choices: { text: string }[] }).choices[0]!.text;
    const alone = await textOf(await exhausted.post('/v1/completions', bodyOf(0)));
    const crowd = isLong ? 300 : 36;
    const answers = await Promise.all(
      Array.from({ length: crowd }, (_, i) => exhausted.post('/v1/completions', bodyOf(i % 20))),
    );
    const statuses = answers.map(({ status }) => status);
    expect(new Set(statuses)).toEqual(new Set([200, 429]));
    const texts = new Map<number, Set<string>>();
    for (const [i, answer] of answers.entries()) {
      if (answer.status === 429) {
        expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(0);
        continue;
      }
      texts.set(i % 20, (texts.get(i % 20) ?? new Set()).add(await textOf(answer)));
    }
    for (const same of texts.values()) expect(same.size).toBe(1);
    expect([...(texts.get(0) ?? [])]).toEqual([alone]);
    expect(await exhausted.metric('num_preemptions_total')).toBeGreaterThan(0);
    const refused = statuses.filter((status) => status === 429).length;
    await eventually(async () =>
      (await (await fetch(`${exhausted.url}/metrics`)).text()).includes(
        `http_requests_total{status="429"} ${refused}`,
      ),
    );
    await expectOthersServed(exhausted.url);
    await expectNothingLeaked(exhausted);
  });

  it('ends what its clients have left, wherever it waits', async () => {
    const exhausted = await testServer({ engine: { kvMemory: 4 << 20, maxSequences: 32, maxQueue: 1000 } });
    server = exhausted;
    const body = { prompt: 'The blue bicycle. '.repeat(40), max_tokens: 300, ignore_eos: true, stream: true };
    const controllers = Array.from({ length: isLong ? 300 : 60 }, () => new AbortController());
    const asked = controllers.map(({ signal }) =>
      fetch(`${exhausted.url}/v1/completions`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(body),
        signal,
      }).catch(() => undefined),
    );
    await eventually(async () => (await exhausted.metric('num_preemptions_total')) > 0);
    for (const controller of controllers) controller.abort();
    await Promise.all(asked);
    await expectNothingLeaked(exhausted);
    await expectOthersServed(exhausted.url);
  });
});

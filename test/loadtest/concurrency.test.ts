import { describe, expect, it } from 'vitest';
import { cacheContenders } from '../../loadtest/concurrency/contenders.js';
import { concurrencyFigures } from '../../loadtest/concurrency/figures.js';
import { TextPrompts } from '../../loadtest/concurrency/text-prompts.js';
import { Random } from '../../loadtest/random.js';
import { serveSettings } from '../../loadtest/serve/serve-settings.js';
import { measure } from './bench.js';
import { benchHere } from './run-here.js';
import { traceOf } from './trace.js';

describe('caches that are compared', () => {
  it('are classes of --kv, zip at a tau, and exact under a pressure', () => {
    const [exact, int4, zip] = cacheContenders(['exact', 'int4', 'zip-0.9']);
    expect([exact!.isReference, int4!.isReference]).toEqual([true, false]);
    expect(serveSettings(undefined, int4!.flags).settings.engine.kv).toBe('int4');
    expect(serveSettings(undefined, zip!.flags).settings.engine).toMatchObject({ kv: 'zip', zipTau: 0.9 });
    const [pressed] = cacheContenders(['exact-pack']);
    expect(pressed!.isReference).toBe(false);
    const { engine } = serveSettings(undefined, pressed!.flags).settings;
    expect(engine).toMatchObject({ kv: 'exact', kvPressure: 'pack' });
    expect(() => cacheContenders(['exact-off'])).toThrow(/^"exact-off" is none of exact/);
    expect(() => cacheContenders(['int3'])).toThrow(/^"int3" is none of exact, int8/);
    expect(() => cacheContenders(['zip-2'])).toThrow(/zip-0\.9/);
  });
});

describe('prompts from a text', () => {
  const ids = Array.from({ length: 40 }, (_, place) => place);

  it('are stretches of it that begin at places of their own, the same for the same seed', () => {
    const prompts = TextPrompts.of('a.txt', ids, new Random(1));
    const begun = Array.from({ length: 31 }, () => {
      const prompt = prompts.next(10);
      expect(prompt).toEqual(ids.slice(prompt[0]!, prompt[0]! + 10));
      return prompt[0];
    });
    expect(new Set(begun).size).toBe(31);
    const again = TextPrompts.of('a.txt', ids, new Random(1));
    expect(begun).toEqual(begun.map(() => again.next(10)[0]));
    expect(() => prompts.next(10)).toThrow('a.txt has 40 tokens, too few for one more prompt of 10');
    expect(() => prompts.next(41)).toThrow('give a longer --text');
  });
});

describe('figures of concurrency', () => {
  const look = (at: number, running: number, waiting: number, preemptions = 0) => ({
    at,
    running,
    waiting,
    preemptions,
    dropped: 100 * preemptions,
    memory: { exact: 0.5, smaller: at / 1000, free: 0.25, scattered: 0.05 },
  });
  const load = {
    traces: [traceOf([100, 110, 130]), traceOf([300, 310, 320])],
    seconds: 2,
    clientCpuShare: 0,
  };

  it('have the peak of all looks, and median and mean of those at which requests wait since the first has ended', () => {
    const found = concurrencyFigures(load, [
      look(0, 0, 0, 1),
      look(100, 1, 2, 1),
      look(120, 2, 2, 1),
      look(150, 4, 2, 1),
      look(200, 5, 3, 3),
      look(250, 5, 3, 3),
      look(300, 6, 0, 3),
    ]);
    expect(found.mean).toBeCloseTo(14 / 3);
    expect(found).toMatchObject({
      peak: 6,
      usual: 5,
      preemptions: 2,
      dropped: 200,
      ttftP50: 200,
      tbtP50: 10,
      rate: 3,
    });
    expect(found.exact).toBeCloseTo(50);
    expect(found.smaller).toBeCloseTo(20);
    expect(found.scattered).toBeCloseTo(5);
  });

  it('say nothing where memory bounds nothing, or a request failed', () => {
    expect(() => concurrencyFigures(load, [look(0, 0, 0), look(200, 2, 0)])).toThrow(
      'all requests had room at once, 2 at most: give more --clients, or less --kv-memory',
    );
    const failed = { ...load, traces: [traceOf([], { error: '503 full' })] };
    expect(() => concurrencyFigures(failed, [look(200, 1, 1)])).toThrow('a request failed: 503 full');
  });
});

describe('tandem bench concurrency', () => {
  it('shows that more sequences run in the same memory under a smaller cache', async () => {
    const { row } = await measure(
      ...['concurrency', '--kv', 'exact,int8', '--kv-memory', '8MiB', '--clients', '12'],
      ...['--requests', '16', '--prompt', '300', '--output', '100', '--', '--cores', '1'],
    );
    const usual = 'sequences at once, median while requests wait';
    expect(row(`exact: ${usual}`).baseline).toBeNull();
    expect(row(`int8: ${usual}`).baseline).toBe(row(`exact: ${usual}`).value);
    expect(row(`int8: ${usual}`).value).toBeGreaterThan(row(`exact: ${usual}`).value);
    // 12 ask at once, and 8 MiB hold 1365 exact tokens.
    expect(row('exact: sequences at once, peak').value).toBeLessThan(12);
    expect(row('int8: TTFT p99').baseline).toBe(row('exact: TTFT p99').value);
  });

  it('says what is wrong with its options', async () => {
    const { code, stderr } = await benchHere('concurrency', '--kv', 'exact,int3');
    expect(code).toBe(1);
    expect(stderr).toContain('"int3" is none of exact');
  });
});

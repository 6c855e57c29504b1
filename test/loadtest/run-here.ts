import { vi } from 'vitest';
import { run as runBench } from '../../loadtest/commands/bench.js';
import { run as runConvert } from '../../loadtest/commands/convert.js';
import type { Bench } from './bench.js';

/**
 * `tandem bench …` and `tandem convert …` in the test's own process, one at a time: for what they refuse, which takes
 * a fraction of the time in which a process of their own begins.
 */
export const benchHere = (...args: string[]): Promise<Bench> => runHere(runBench, args);
export const convertHere = (...args: string[]): Promise<Bench> => runHere(runConvert, args);

async function runHere(run: (argv: string[]) => Promise<number>, args: string[]): Promise<Bench> {
  const printed = { stdout: '', stderr: '' };
  const spies = (['stdout', 'stderr'] as const).map((name) =>
    vi.spyOn(process[name], 'write').mockImplementation((chunk) => {
      printed[name] += chunk;
      return true;
    }),
  );
  try {
    const code = await run(args);
    return { code, ...printed };
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
}

import { vi } from 'vitest';
import { run as runBench } from '../../loadtest/commands/bench.js';
import { run as runConvert } from '../../loadtest/commands/convert.js';
import { oneCore } from '../support/one-core.js';
import type { Bench } from './bench.js';

/**
 * `tandem bench …` and `tandem convert …` in the test's own process, one at a time: a process of their own takes longer to
 * begin than most of them to end.
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
  // As a process of their own has it. What tests have stubbed beside it stays.
  const { TANDEM_CORES: cores } = process.env;
  process.env.TANDEM_CORES = cores ?? String(oneCore.cores);
  try {
    const code = await run(args);
    return { code, ...printed };
  } finally {
    if (cores === undefined) delete process.env.TANDEM_CORES;
    for (const spy of spies) spy.mockRestore();
  }
}

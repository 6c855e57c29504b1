import process from 'node:process';
import type { Runner, RunnerAnswer, RunnerCall } from './runner.js';

/** Answers the parent process's calls, one at a time, until it goes away. */
export function serveRunner(runner: Runner): void {
  process.on('message', async (call: RunnerCall) => {
    process.send!(await answer(runner, call));
    if (call.method === 'close') process.disconnect();
  });
  // A parent that dies must not leave a process behind that holds gigabytes.
  process.on('disconnect', () => process.exit());
}

async function answer(runner: Runner, { id, method, args }: RunnerCall): Promise<RunnerAnswer> {
  try {
    const run = runner[method] as (...args: unknown[]) => Promise<unknown>;
    return { id, value: await run.apply(runner, [...args]) };
  } catch (error) {
    return { id, error: (error as Error).message };
  }
}

import process from 'node:process';

/** Results, on standard output. */
export function print(text: string): void {
  process.stdout.write(text);
}

/** What is going on, on standard error, so that it does not mix with results. */
export function notice(line: string): void {
  process.stderr.write(`${line}\n`);
}

import { spawn } from 'node:child_process';

/** A tool that failed; `output` is all it said. */
export class ToolFailed extends Error {
  constructor(command, output) {
    super(`${command} failed`);
    this.output = output;
  }
}

/**
 * Runs a program to its end, calling `onLine` with each line it prints.
 * @param {string} command
 * @param {string[]} args
 * @param {{ cwd: string, onLine?: (line: string) => void, env?: NodeJS.ProcessEnv }} options
 */
export function runTool(command, args, { cwd, onLine = () => {}, env = process.env }) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] });
    const output = [];
    for (const stream of [child.stdout, child.stderr]) {
      let rest = '';
      stream.setEncoding('utf8');
      stream.on('data', (text) => {
        output.push(text);
        const lines = (rest + text).split('\n');
        rest = lines.pop();
        for (const line of lines) onLine(line);
      });
    }
    child.on('error', (error) => reject(new ToolFailed(command, error.message)));
    child.on('close', (code) => {
      if (code === 0) resolve();
      else reject(new ToolFailed([command, ...args].join(' '), output.join('')));
    });
  });
}

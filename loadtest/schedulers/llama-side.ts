import { fork } from 'node:child_process';
import type { LlamaMixedAnswer, LlamaMixedCall } from '../peer/llama-mixed.js';
import { mixedFigures } from './figures.js';
import type { Side } from './in-turns.js';

/** llama.cpp in a process of its own for each turn, as the servers are. */
export function llamaSide(call: LlamaMixedCall): Side {
  return { name: 'llama.cpp', measure: async () => mixedFigures(await measureInProcess(call)) };
}

function measureInProcess(call: LlamaMixedCall) {
  const child = fork(new URL('../peer/llama-mixed.js', import.meta.url), {
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  return new Promise<Extract<LlamaMixedAnswer, { times: unknown }>['times']>((resolve, reject) => {
    child.on('message', (answer: LlamaMixedAnswer) => {
      if ('error' in answer) reject(new Error(`llama.cpp: ${answer.error}`));
      else resolve(answer.times);
    });
    child.on('error', reject);
    child.on('exit', (code, signal) => {
      reject(new Error(`llama.cpp: its process ended (${signal ?? `exit code ${code}`})`));
    });
    child.send(call);
  });
}

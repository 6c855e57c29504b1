import { spawn } from 'node:child_process';
import process from 'node:process';
import { inRoot, root } from './paths.mjs';
import { setupOrExit } from './setup.mjs';

await setupOrExit({ tests: true });
const vitest = inRoot('node_modules/vitest/vitest.mjs');
const child = spawn(process.execPath, [vitest, 'run', ...process.argv.slice(2)], {
  cwd: root,
  stdio: 'inherit',
});
child.on('close', (code) => {
  process.exitCode = code ?? 1;
});

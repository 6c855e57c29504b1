import process from 'node:process';
import { setupOrExit } from './setup.mjs';

await setupOrExit();
const { run } = await import('../dist/server/commands/serve.js');
process.exitCode = await run(process.argv.slice(2));

import process from 'node:process';
import { endProcess } from './end-process.mjs';
import { setupOrExit } from './setup.mjs';

await setupOrExit();
const { run } = await import('../dist/server/commands/serve.js');
endProcess(await run(process.argv.slice(2)));

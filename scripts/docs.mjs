import { writeFileSync } from 'node:fs';
import { inRoot } from './paths.mjs';
import { setupOrExit } from './setup.mjs';

await setupOrExit();
const { renderReference } = await import('../dist/config/reference.js');
writeFileSync(inRoot('docs/configuration.md'), renderReference());

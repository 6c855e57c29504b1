import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { root } from '../support/demo.js';
import { type TestServer, testServer } from '../support/server.js';

/** The examples of docs/clients.md, each with the heading that it stands under. */
const examples = [...readFileSync(path.join(root, 'docs/clients.md'), 'utf8').split(/^## /m)].flatMap(
  (section) => {
    const heading = section.slice(0, section.indexOf('\n'));
    return [...section.matchAll(/^```(js|sh)\n([\s\S]*?)^```/gm)].map(([, language, code], index) => ({
      name: `${heading}, ${index + 1}`,
      language: language!,
      code: code!,
    }));
  },
);

let server: TestServer;
let folder: string;
beforeAll(async () => {
  server = await testServer();
  // Inside of this one, where the packages are found.
  mkdirSync(path.join(root, 'build'), { recursive: true });
  folder = mkdtempSync(path.join(root, 'build/clients-'));
});
afterAll(async () => {
  await server.close();
  rmSync(folder, { recursive: true });
});

describe('docs/clients.md', () => {
  it('has an example of each client', () => {
    expect(examples.length).toBeGreaterThanOrEqual(8);
    for (const { code } of examples) expect(code).toContain('127.0.0.1:8000');
  });

  it.each(examples)('$name runs as it stands there', async ({ language, code }) => {
    const address = server.url.slice('http://'.length);
    const file = path.join(folder, language === 'js' ? 'example.mjs' : 'example.sh');
    writeFileSync(file, code.replaceAll('127.0.0.1:8000', address));
    const program = language === 'js' ? process.execPath : 'bash';
    const { stdout } = await promisify(execFile)(program, [file], { timeout: 120_000 });
    expect(stdout).toContain('1, 2, 3, 4, 5, 6, 7, 8, 9, 10.');
  });
});

import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Folder } from '../scripts/support.js';
import { chromiumPath, launchChromium } from '../support/browser.js';
import { root } from '../support/demo.js';
import { type TestServer, testServer } from '../support/server.js';
import { toolTemplate } from '../support/tool-template.js';

/** The examples of docs/clients.md, each with the heading that it stands under. */
const examples = readFileSync(path.join(root, 'docs/clients.md'), 'utf8')
  .split(/^## /m)
  .flatMap((section) => {
    const heading = section.slice(0, section.indexOf('\n'));
    return [...section.matchAll(/^```(js|sh)\n([\s\S]*?)^```/gm)].map(([, language, code], index) => ({
      name: `${heading}, ${index + 1}`,
      language: language!,
      code: code!,
    }));
  });

/** What each of them prints, of the demo model. */
const counted = '1, 2, 3, 4, 5, 6, 7, 8, 9, 10.';
const person = /^\w.{0,19} is \d{1,3}$/m;
const called = /^\{"city":\s*"(Oslo|Rome)",\s*"days":\s*[1-9]\s*\} for get_weather$/m;

let elsewhere: Server;
let server: TestServer;
let folder: string;
let tools: Folder;
beforeAll(async () => {
  elsewhere = createServer((_, response) => response.end('<!doctype html><title>another origin</title>'));
  await new Promise<void>((resolve) => elsewhere.listen(0, '127.0.0.1', resolve));
  tools = new Folder({ 'tools.jinja': toolTemplate });
  const model = { chatTemplate: tools.at('tools.jinja') };
  server = await testServer({ model, server: { corsOrigin: [origin()] } });
  // Inside of this one, where the packages are found.
  mkdirSync(path.join(root, 'build'), { recursive: true });
  folder = mkdtempSync(path.join(root, 'build/clients-'));
});
afterAll(async () => {
  elsewhere.close();
  await server.close();
  tools.close();
  rmSync(folder, { recursive: true });
});

const origin = (): string => `http://127.0.0.1:${(elsewhere.address() as AddressInfo).port}`;
const pointed = (code: string): string =>
  code.replaceAll('127.0.0.1:8000', server.url.slice('http://'.length));

describe('docs/clients.md', () => {
  it('has an example of each client', () => {
    const names = new Set(examples.map(({ name }) => name.replace(/, \d$/, '')));
    expect([...names]).toEqual([
      'curl',
      'openai',
      'LangChain',
      'Vercel AI SDK',
      'fetch',
      'A browser',
      'A WebSocket',
    ]);
    for (const { code } of examples) expect(code).toContain('127.0.0.1:8000');
  });

  it.each(examples)('$name runs as it stands there', async ({ language, code }) => {
    const file = path.join(folder, language === 'js' ? 'example.mjs' : 'example.sh');
    writeFileSync(file, pointed(code));
    const program = language === 'js' ? process.execPath : 'bash';
    const { stdout } = await promisify(execFile)(program, [file], { timeout: 120_000 });
    if (code.includes('Count to 10.')) expect(stdout).toContain(counted);
    else expect(stdout).toMatch(code.includes('tools:') ? called : person);
  });

  it.skipIf(!chromiumPath)('what stands for a browser runs in a page of another origin', async () => {
    const browser = await launchChromium(chromiumPath!);
    try {
      const page = await browser.newPage();
      await page.goto(origin());
      const printed = new Promise((resolve) => page.once('console', (message) => resolve(message.text())));
      const { code } = examples.find(({ name }) => name === 'A browser, 1')!;
      await page.addScriptTag({ type: 'module', content: pointed(code) });
      expect(await printed).toBe(counted);
    } finally {
      await browser.close();
    }
  });
});

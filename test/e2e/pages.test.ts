import { spawn } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Folder } from '../scripts/support.js';
import { png } from '../server/images/test-image.js';
import { accessibilityProblems, chromiumPath, launchChromium } from '../support/browser.js';
import { root } from '../support/demo.js';
import { eventually, type TestServer, testServer } from '../support/server.js';
import { makeVisionModel } from '../support/vision-model.js';

const title = chromiumPath
  ? 'the pages in Chromium'
  : 'the pages in Chromium (there is none: install it, or set CHROMIUM)';
const question = 'The blue bicycle belongs to Anna. Leo works as a baker. Who owns the blue bicycle?';
const answer = 'The blue bicycle belongs to Anna.';

describe.skipIf(!chromiumPath)(title, () => {
  let browser: Browser;
  let server: TestServer;
  let context: BrowserContext;
  /** What a page should never do: fail, offend its policy, or call elsewhere. */
  const faults: string[] = [];
  beforeAll(async () => {
    [browser, server] = await Promise.all([launchChromium(chromiumPath!), testServer()]);
  });
  afterAll(async () => {
    await browser.close();
    await server.close();
  });
  afterEach(async () => {
    await context.close();
    expect(faults.splice(0)).toEqual([]);
  });

  /** `expected`: failed requests that the test makes happen, which Chromium writes to the console. */
  async function open(
    url: string,
    options: { expected?: RegExp; width?: number; dark?: boolean } = {},
  ): Promise<Page> {
    const { expected, width = 1280, dark = false } = options;
    context = await browser.newContext({
      viewport: { width, height: 800 },
      colorScheme: dark ? 'dark' : 'light',
      reducedMotion: 'reduce',
    });
    // It ends what hangs; a busy machine must not reach it.
    context.setDefaultTimeout(150_000);
    const page = await context.newPage();
    page.on('pageerror', (error) => faults.push(error.message));
    page.on('console', (message) => {
      if (message.type() === 'error' && !expected?.test(message.text())) faults.push(message.text());
    });
    page.on('request', (request) => {
      if (new URL(request.url()).host !== new URL(url).host) faults.push(`asked ${request.url()}`);
    });
    await page.goto(url);
    return page;
  }

  const isWiderThanTheScreen = (page: Page) =>
    page.evaluate('document.documentElement.scrollWidth > document.documentElement.clientWidth');

  describe('the playground', () => {
    const ready = (page: Page) => page.getByText('Ready', { exact: true }).waitFor();
    const ended = (page: Page, index = 0) =>
      page.locator('.assistant:not(.streaming)').nth(index).locator('footer').waitFor();
    const answers = (page: Page) => page.locator('.assistant .body');

    it('answers by keyboard alone, and says how fast', async () => {
      const page = await open(server.url);
      await ready(page);
      await page.keyboard.type('Hi, my name is Mira.');
      await page.keyboard.press('Enter');
      await ended(page);
      await page.keyboard.type(question);
      await page.keyboard.press('Enter');
      await ended(page, 1);
      expect(await answers(page).nth(1).innerText()).toContain('Anna');
      const figures = await page.locator('.assistant .metrics').nth(1).innerText();
      expect(figures).toMatch(/TTFT\s+[\d.]+ m?s/);
      expect(figures).toMatch(/TBT\s+[\d.]+ m?s, longest [\d.]+ m?s/);
      expect(figures).toMatch(/[\d.,]+ tokens\/s/);
      // What the server counted, of the conversation so far.
      expect(figures).toMatch(/prompt\s+\d+ tokens, \d+ cached/);
      expect(await page.locator('#announcement').innerText()).toMatch(/^Answer of \d+ tokens/);
      expect(await accessibilityProblems(page)).toEqual([]);
    });

    it('stops at Escape, keeps what came, and asks again', async () => {
      // An answer that is longer than anyone waits, so that it cannot have ended before it is stopped.
      const endless = await testServer({ engine: { kv: 'pack' } });
      const page = await open(endless.url);
      await ready(page);
      await page.getByText('Format of the answer').click();
      await page.getByLabel('Format', { exact: true }).selectOption('grammar');
      await page.getByLabel('Grammar', { exact: true }).fill('root ::= ("ha ")+ "!"');
      await page.getByLabel('Max tokens').fill('1000000');
      await page.getByLabel('Message').fill('Laugh.');
      await page.keyboard.press('Enter');
      await page.locator('.assistant .body', { hasText: 'ha ha' }).waitFor();
      await page.keyboard.press('Escape');
      await page.getByText('stopped by you').waitFor();
      await eventually(async () => (await endless.metric('num_requests_running')) === 0);
      expect(await answers(page).innerText()).toMatch(/^(ha )+/);
      await page.getByLabel('Format', { exact: true }).selectOption('text');
      await page.getByRole('button', { name: 'Retry' }).click();
      await ended(page);
      expect(await answers(page).count()).toBe(1);
      expect(await answers(page).innerText()).not.toContain('ha ha');
      await endless.close();
    });

    it('holds answers to a schema, and says which setting is wrong', async () => {
      const page = await open(server.url, { expected: /400/ });
      await ready(page);
      await page.getByText('Format of the answer').click();
      await page.getByLabel('Format', { exact: true }).selectOption('json_schema');
      await page.getByLabel('Message').fill('Nora lives in Lima. Return a JSON object with name and city.');
      await page.keyboard.press('Enter');
      await ended(page);
      expect(JSON.parse(await answers(page).innerText())).toEqual({
        name: expect.any(String),
        city: expect.any(String),
      });
      const schema = page.getByLabel('JSON schema');
      await schema.fill('{"type": ');
      await page.getByRole('button', { name: 'Retry' }).click();
      expect(await page.getByRole('alert').innerText()).toContain('The JSON schema is no valid JSON');
      expect(await page.evaluate('document.activeElement.id')).toBe('schema');
      // What the server refuses is shown in its words.
      await schema.fill('{"type": "strange"}');
      await page.getByLabel('Message').fill('Again.');
      await page.keyboard.press('Enter');
      const refusal = page.locator('.assistant [role=alert]');
      expect(await refusal.innerText()).toMatch(/HTTP 400.*request [\w-]+/s);
      expect(await accessibilityProblems(page)).toEqual([]);
    });

    it('edits a message, and shows how likely each token was', async () => {
      const page = await open(server.url, { dark: true });
      await ready(page);
      await page.getByLabel('Show how likely').check();
      await page.getByLabel('Message').fill('Count to 3.');
      await page.keyboard.press('Enter');
      await ended(page);
      expect(await page.locator('.tokens').innerText()).toContain('1, 2, 3.');
      await page.locator('.token').first().focus();
      await page.keyboard.press('ArrowRight');
      expect(await page.locator('.token-detail').innerText()).toMatch(/","\s+[\d.]+%/);
      expect(await accessibilityProblems(page)).toEqual([]);
      await page.getByRole('button', { name: 'Edit' }).click();
      expect(await page.getByLabel('Message').inputValue()).toBe('Count to 3.');
      expect(await page.locator('.message').count()).toBe(0);
    });

    it('gives the request as code that runs', async () => {
      const page = await open(server.url);
      await ready(page);
      await page.getByLabel('Temperature').fill('0');
      await page.getByLabel('Message').fill(question);
      await page.getByRole('button', { name: 'Get code' }).click();
      expect(await accessibilityProblems(page)).toEqual([]);
      await page.getByLabel('Node.js').check();
      const folder = path.join(root, 'build/pages');
      mkdirSync(folder, { recursive: true });
      const file = path.join(folder, 'snippet.mjs');
      writeFileSync(file, await page.locator('#snippet').innerText());
      // The server is in this process, which must be free to answer.
      const child = spawn(process.execPath, [file]);
      let written = '';
      child.stdout.on('data', (data) => {
        written += data;
      });
      await new Promise((resolve) => child.on('close', resolve));
      rmSync(folder, { recursive: true });
      expect(written).toBe(answer);
    });

    it('asks for a key where the server has keys, and keeps it in the tab alone', async () => {
      const locked = await testServer({ server: { apiKey: ['sesame'] } });
      try {
        const page = await open(locked.url, { expected: /401/ });
        const field = page.getByLabel('Key', { exact: true });
        await field.waitFor();
        expect(await accessibilityProblems(page)).toEqual([]);
        await field.fill('guess');
        await page.keyboard.press('Enter');
        await page.getByText('API key needed').waitFor();
        await field.waitFor();
        await field.fill('sesame');
        await page.keyboard.press('Enter');
        await ready(page);
        await page.getByLabel('Message').fill('Hello!');
        await page.keyboard.press('Enter');
        await ended(page);
        expect(await answers(page).innerText()).toContain('Hello');
        expect(await page.evaluate('[localStorage.length, document.cookie, location.href]')).toEqual([
          0,
          '',
          `${locked.url}/`,
        ]);
        await page.getByRole('link', { name: 'Dashboard' }).click();
        await page.getByText('Live', { exact: true }).waitFor();
      } finally {
        await context.close();
        await locked.close();
      }
    });

    it('says that a model reads no images', async () => {
      const page = await open(server.url);
      await ready(page);
      const attach = page.getByRole('button', { name: 'Images' });
      expect(await attach.isDisabled()).toBe(true);
      expect(await attach.getAttribute('title')).toBe('This model reads no images');
    });

    it('attaches images that are chosen, pasted or dropped, by keyboard too, and sends them again', async () => {
      using folder = new Folder();
      makeVisionModel(folder.at('model'));
      const seer = await testServer({
        model: { path: folder.at('model'), weights: 'bf16' },
        server: { maxImages: 3, maxImagePixels: 10_000 },
      });
      const page = await open(seer.url);
      const sent: { messages: { content: { type: string }[] | string }[] }[] = [];
      page.on('request', (request) => {
        if (request.method() === 'POST') sent.push(request.postDataJSON());
      });
      // The browser is told long before the key is pressed.
      const chooser = page.waitForEvent('filechooser');
      await ready(page);
      await page.getByLabel('Max tokens').fill('2');
      const file = (name: string, side = 40) => ({
        name,
        mimeType: 'image/png',
        buffer: png(side, side, (x, y) => [4 * x, 4 * y, 99]),
      });
      const thumbnails = page.locator('#attached canvas');
      await page.getByRole('button', { name: 'Images' }).focus();
      await page.keyboard.press('Enter');
      await (await chooser).setFiles([file('a.png'), file('b.png')]);
      await thumbnails.nth(1).waitFor();
      expect(await accessibilityProblems(page)).toEqual([]);
      // One too large, and one of no type that is read.
      await page.locator('#image-files').setInputFiles(file('large.png', 101));
      await page.getByText('large.png has 101 x 101 pixels; the limit is 10000').waitFor();
      await page
        .locator('#image-files')
        .setInputFiles({ name: 'c.gif', mimeType: 'image/gif', buffer: Buffer.from('GIF89a') });
      await page.getByText('c.gif is none of PNG, JPEG, WEBP').waitFor();
      // By keyboard: the next one has the focus then.
      await page.getByRole('button', { name: 'Remove a.png' }).focus();
      await page.keyboard.press('Enter');
      expect(await thumbnails.count()).toBe(1);
      expect(await page.evaluate('document.activeElement.ariaLabel')).toBe('Remove b.png');
      const base64 = JSON.stringify(file('').buffer.toString('base64'));
      const fresh = (name: string) =>
        `const bytes = Uint8Array.from(atob(${base64}), (c) => c.charCodeAt(0));
         const data = new DataTransfer();
         data.items.add(new File([bytes], '${name}', { type: 'image/png' }));`;
      await page.evaluate(`(() => { ${fresh('pasted.png')}
        document.getElementById('prompt').dispatchEvent(
          new ClipboardEvent('paste', { clipboardData: data, bubbles: true, cancelable: true }));
      })()`);
      await thumbnails.nth(1).waitFor();
      await page.evaluate(`(() => { ${fresh('dropped.png')}
        document.getElementById('transcript').dispatchEvent(
          new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }));
      })()`);
      await thumbnails.nth(2).waitFor();
      await page.locator('#image-files').setInputFiles(file('fourth.png'));
      await page.getByText('A conversation shows up to 3 images here').waitFor();
      await page.getByLabel('Message', { exact: true }).fill('What are they?');
      await page.keyboard.press('Enter');
      await ended(page);
      expect(await page.locator('.user canvas').count()).toBe(3);
      expect(await thumbnails.count()).toBe(0);
      for (const colorScheme of ['light', 'dark'] as const) {
        await page.emulateMedia({ colorScheme });
        expect(await accessibilityProblems(page)).toEqual([]);
      }
      await page.getByLabel('Message', { exact: true }).fill('And their colours?');
      await page.keyboard.press('Enter');
      await ended(page, 1);
      const typesOf = (content: { type: string }[] | string) =>
        typeof content === 'string' ? content : content.map(({ type }) => type);
      const image = 'image_url';
      expect(sent.map(({ messages }) => typesOf(messages[0]!.content))).toEqual([
        [image, image, image, 'text'],
        [image, image, image, 'text'],
      ]);
      expect(await seer.metric('images_encoded_total')).toBe(1);
      // Taken back to be written anew, with its images.
      await page.getByRole('button', { name: 'Edit' }).first().click();
      await thumbnails.nth(2).waitFor();
      expect(await page.getByLabel('Message', { exact: true }).inputValue()).toBe('What are they?');
      expect(await page.locator('.message').count()).toBe(0);
      await context.close();
      await seer.close();
    });

    it('fits a phone', async () => {
      const page = await open(server.url, { width: 375 });
      await ready(page);
      await page.getByLabel('Message').fill(question);
      await page.getByRole('button', { name: 'Send' }).click();
      await ended(page);
      expect(await isWiderThanTheScreen(page)).toBe(false);
      await page.getByRole('button', { name: 'Settings' }).click();
      await page.getByLabel('System prompt').waitFor();
      expect(await isWiderThanTheScreen(page)).toBe(false);
      expect(await accessibilityProblems(page)).toEqual([]);
    });
  });

  describe('the dashboard', () => {
    const live = (page: Page) => page.getByText('Live', { exact: true }).waitFor();
    const tile = (page: Page, name: string) => page.locator('.tile', { hasText: name });

    async function load(to: TestServer, requests: number): Promise<void> {
      const body = (i: number) => ({
        messages: [{ role: 'user', content: `${i}. ${'Leo works as a baker. '.repeat(40)}Count to 20.` }],
      });
      const answers = Array.from({ length: requests }, (_, i) => to.post('/v1/chat/completions', body(i)));
      for (const one of await Promise.all(answers)) expect(await one.json()).toMatchObject({ choices: [{}] });
    }

    it('shows what runs, how fast, and why the device is shared so', async () => {
      const page = await open(`${server.url}/dashboard`);
      await live(page);
      await load(server, 6);
      await page.locator('#decision tr.chosen').first().waitFor();
      await page.locator('#requests td', { hasText: 'finished' }).nth(5).waitFor();
      // Both are of the last ten seconds, and what a slow machine answered may be over as long ago.
      await eventually(async () => {
        await load(server, 1);
        const [ttft, tbt] = [await tile(page, 'TTFT').innerText(), await tile(page, 'TBT').innerText()];
        return /^TTFT, median\s*[\d.]+ m?s/.test(ttft) && /[\d.]+ m?s\s*p99 [\d.]+ m?s/.test(tbt);
      });
      expect(await tile(page, 'KV memory').innerText()).toMatch(/[\d.]+%\s*of 256 MiB/);
      expect(await tile(page, 'Tokens written').innerText()).toMatch(/[1-9][\d,]* in all/);
      expect(await page.locator('#ttft-distribution').innerText()).toMatch(/\d+ seen · p50/);
      expect(await page.locator('#tbt-distribution svg').getAttribute('aria-label')).toMatch(
        /TBT: [\d,]+ seen/,
      );
      expect(await page.locator('#units canvas').count()).toBe(1);
      expect(await isWiderThanTheScreen(page)).toBe(false);
      expect(await accessibilityProblems(page)).toEqual([]);
      await page.emulateMedia({ colorScheme: 'dark' });
      expect(await accessibilityProblems(page)).toEqual([]);
      // Each chart was drawn anew, in place of what it was.
      expect(await page.locator('canvas').count()).toBe(6);
    });

    it('looks away while nobody looks at it', async () => {
      const page = await open(`${server.url}/dashboard`, { width: 375 });
      await live(page);
      expect(await isWiderThanTheScreen(page)).toBe(false);
      const hide = (hidden: boolean) =>
        page.evaluate(
          `Object.defineProperty(document, 'hidden', { value: ${hidden}, configurable: true });
           document.dispatchEvent(new Event('visibilitychange'))`,
        );
      await eventually(async () => (await server.metric('websockets')) === 1);
      await hide(true);
      await page.getByText('Paused').waitFor();
      await eventually(async () => (await server.metric('websockets')) === 0);
      await hide(false);
      await live(page);
    });

    it('says when the server is gone, and that it was restarted', async () => {
      const first = await testServer();
      let second: TestServer | undefined;
      try {
        const page = await open(`${first.url}/dashboard`, { expected: /WebSocket|ERR_CONNECTION/ });
        await live(page);
        await first.close();
        await page.getByText('Server not reached').waitFor();
        second = await testServer({ server: { port: Number(new URL(first.url).port) } });
        await live(page);
        await page.getByText('The server was restarted at').waitFor();
        expect(await accessibilityProblems(page)).toEqual([]);
        await page.getByRole('button', { name: 'Dismiss' }).click();
        expect(await page.locator('#notice').isVisible()).toBe(false);
      } finally {
        await context.close();
        await second?.close();
      }
    });
  });
});

/**
 * Makes pictures of the pages for the README: docs/images/{playground,dashboard}-{light,dark}.png, of a real server
 * with the demo model under a real load. Takes some two minutes on a machine that does nothing else, and a Chromium (CHROMIUM names one that is not in the PATH).
 *
 *   node scripts/screenshots.mjs
 */
import { spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import process from 'node:process';
import { setTimeout as sleep } from 'node:timers/promises';
import { findChromium, launchOptions } from './chromium.mjs';
import { inRoot } from './paths.mjs';
import { setupOrExit } from './setup.mjs';

const playgroundSize = { width: 1240, height: 780 };
const dashboardSize = { width: 1240, height: 1000 };
const loadSeconds = 60;
const streams = 3;

await setupOrExit();
// Needed for tests alone; `npm test` installs it.
const { chromium } = await import('playwright-core');
const executablePath = findChromium();
if (!executablePath) {
  process.stderr.write('screenshots: there is no Chromium; install it, or set CHROMIUM\n');
  process.exit(1);
}
mkdirSync(inRoot('docs/images'), { recursive: true });
const server = spawn(
  inRoot('tandem'),
  ['serve', '--port', '0', '--kv-memory', '32MiB', '--log-level', 'warn'],
  {
    stdio: ['ignore', 'pipe', 'inherit'],
  },
);
try {
  const url = await urlOf(server);
  const browser = await chromium.launch({ executablePath, ...launchOptions });
  const page = await browser.newPage({ viewport: playgroundSize });
  page.setDefaultTimeout(launchOptions.timeout);
  await page.goto(url);
  await playground(page);
  await page.setViewportSize(dashboardSize);
  await page.goto(`${url}/dashboard`);
  await dashboard(page, url);
  await browser.close();
} finally {
  server.kill();
}

/** The server says where it is when it is ready. */
async function urlOf({ stdout }) {
  for await (const line of stdout) {
    const [, url] = / on (http:\S+)/.exec(String(line)) ?? [];
    if (url) return url;
  }
  throw new Error('the server ended before it was ready');
}

async function playground(page) {
  const say = async (text, answers) => {
    await page.getByLabel('Message').fill(text);
    await page.keyboard.press('Enter');
    await page.locator('.assistant:not(.streaming) footer').nth(answers).waitFor();
  };
  await page.getByText('Ready', { exact: true }).waitFor();
  await page.getByLabel('System prompt').fill('You answer questions about the facts that you are given.');
  await page.getByLabel('Seed').fill('7');
  await say('The blue bicycle belongs to Anna. Leo works as a baker. Who owns the blue bicycle?', 0);
  await page.getByLabel('Show how likely').check();
  await page.getByLabel('Temperature').fill('0.8');
  await say('Tell me a story about a dog.', 1);
  await page.locator('.surprise-4').first().hover();
  await shoot(page, 'playground');
}

async function dashboard(page, url) {
  const load = { isOn: true };
  const running = [
    ...Array.from({ length: streams }, (_, i) => writeStories(url, i, load)),
    askAboutLongTexts(url, load),
  ];
  await sleep(loadSeconds * 1000);
  load.isOn = false;
  await shoot(page, 'dashboard');
  await Promise.all(running);
}

async function shoot(page, name) {
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme });
    // A chart takes the new colours with its next sample.
    await sleep(700);
    await page.screenshot({ path: inRoot(`docs/images/${name}-${colorScheme}.png`) });
  }
}

/** One stream after another, as a person who reads along would have them. */
async function writeStories(url, number, load) {
  for (let turn = 0; load.isOn; turn++) {
    const content = `Tell me a story about a ${['dog', 'cat', 'king', 'girl', 'bird'][(number + turn) % 5]}.`;
    await complete(url, {
      messages: [{ role: 'user', content }],
      ignore_eos: true,
      max_tokens: 300 + 60 * number,
      seed: turn,
    });
    await sleep(250 * (number + 1));
  }
}

/** Long prompts, which come in bursts; some begin like others. */
async function askAboutLongTexts(url, load) {
  for (let turn = 0; load.isOn; turn++) {
    const facts = Array.from(
      { length: 70 },
      (_, i) => `The ${i % 7} box of room ${(turn % 6) * 100 + i} is green.`,
    ).join(' ');
    const burst = Array.from({ length: 1 + (turn % 4) }, (_, i) =>
      complete(url, { messages: [{ role: 'user', content: `${facts} Count to ${i + 5}.` }], max_tokens: 40 }),
    );
    await Promise.all(burst);
    await sleep(turn % 5 === 4 ? 6000 : 1200);
  }
}

async function complete(url, body) {
  const response = await fetch(`${url}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ ...body, stream: true }),
  });
  await response.text();
}

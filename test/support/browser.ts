import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { type Browser, chromium, type Page } from 'playwright-core';
import { importScript } from '../scripts/support.js';

const { findChromium, launchOptions } = await importScript('chromium.mjs');

/** A Chromium that is installed here; undefined where there is none. */
export const chromiumPath: string | undefined = findChromium();

export function launchChromium(executablePath: string): Promise<Browser> {
  return chromium.launch({ executablePath, ...launchOptions });
}

const axeSource = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** What axe finds wrong with the page as it is now, each with the elements. */
export async function accessibilityProblems(page: Page): Promise<string[]> {
  await page.evaluate(axeSource);
  const violations = (await page.evaluate(
    'axe.run().then(({ violations }) => violations.map(({ id, nodes }) => [id, nodes.map(({ html, failureSummary }) => html + failureSummary)]))',
  )) as [string, string[]][];
  return violations.map(([id, elements]) => `${id}: ${elements.join('\n')}`);
}

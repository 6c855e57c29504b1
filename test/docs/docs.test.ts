import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { options } from '../../config/options.js';
import { Metrics } from '../../server/metrics.js';
import { ChatBody, CompletionBody, DetokenizeBody, TokenizeBody } from '../../server/openai/schemas.js';
import { idleStats } from '../support/idle-stats.js';

const root = fileURLToPath(new URL('../../', import.meta.url));
const read = (file: string) => readFileSync(path.join(root, file), 'utf8');
const pages = [
  ...readdirSync(root).filter((name) => name.endsWith('.md')),
  ...readdirSync(path.join(root, 'docs'))
    .filter((name) => name.endsWith('.md'))
    .map((name) => `docs/${name}`),
  'models/README.md',
];

describe('docs', () => {
  it.each(pages)('%s links to what is there', (page) => {
    const links = [...read(page).matchAll(/\]\((?!https?:|#)([^)#]+)/g)].map(([, target]) => target!);
    const missing = links.filter((link) => !existsSync(path.join(root, path.dirname(page), link)));
    expect(missing).toEqual([]);
  });

  it.each(pages)('%s names only flags that exist', (page) => {
    const settings = new Set(options.map(({ flag }) => flag));
    const sources = ['config', 'server/commands', 'scripts', 'loadtest/commands'].flatMap((folder) =>
      readdirSync(path.join(root, folder))
        .filter((name) => /\.(ts|mjs)$/.test(name))
        .map((name) => read(`${folder}/${name}`)),
    );
    sources.push(read('native/gpu-check.sh'));
    const known = (flag: string) =>
      settings.has(flag.replace(/^no-/, '')) || sources.some((source) => source.includes(`--${flag}`));
    // Commands of other programs have flags of their own.
    const ours = read(page).replace(/^.*(cmake|npm ci|curl|nvcc -).*$/gm, '');
    const flags = [...ours.matchAll(/(?<=[\s`(])--([a-z][a-z-]+)/g)].map(([, flag]) => flag!);
    expect(flags.filter((flag) => !known(flag) && flag !== 'name' && flag !== 'no-name')).toEqual([]);
  });
});

describe('docs/api.md', () => {
  const page = read('docs/api.md');

  it('describes every field of every body', () => {
    const fields = [ChatBody, CompletionBody, TokenizeBody, DetokenizeBody].flatMap((body) =>
      Object.keys(body.shape),
    );
    const described = (field: string) => new RegExp(`\`${field}[\`.]`).test(page);
    expect(fields.filter((field) => !described(field))).toEqual([]);
  });

  it('lists every metric', async () => {
    const images = { encoded: 0, reused: 0, encodeSeconds: 0, heldBytes: 0 };
    const stats = { ...idleStats, kvPages: [{ high: 0, all: 0 }], images };
    const text = await new Metrics().text(stats);
    const names = [...text.matchAll(/^# TYPE tandem:(\w+)/gm)].map(([, name]) => name!);
    expect(names.length).toBeGreaterThan(20);
    expect(names.filter((name) => !new RegExp(`\`${name}[\`{]`).test(page))).toEqual([]);
  });
});

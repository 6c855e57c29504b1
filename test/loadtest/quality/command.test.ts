import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { offeredPolicies } from '../../../loadtest/quality/policies.js';
import { Folder } from '../../scripts/support.js';
import { demoFolder } from '../../support/demo.js';
import { measure } from '../bench.js';
import { benchHere } from '../run-here.js';

const tiny = [
  ...['--window', '48', '--windows', '2', '--contexts', '96,128', '--depths', '0,100', '--samples', '1'],
  ...['--cores', '1'],
];
const timed = ['--sequences', '1,2', '--repetitions', '1'];

describe('tandem bench quality', () => {
  it('measures every cache that the server offers beside the exact one', async () => {
    using folder = new Folder();
    const html = folder.at('quality.html');
    const { names, row } = await measure('quality', ...tiny, ...timed, '--html', html);
    expect(offeredPolicies.map(({ name }) => name)).toEqual(['exact', 'int8', 'int4', 'int2', 'zip']);
    for (const { name } of offeredPolicies) expect(names).toContain(`${name}: KV of a token`);

    // 6 layers of 4 heads of 64 elements, K and V: bf16, and bytes with a float32 scale.
    expect(row('exact: KV of a token').value).toBe(6 * 4 * 2 * 64 * 2);
    expect(row('int8: KV of a token')).toMatchObject({ value: 6 * 4 * 2 * (64 + 4), baseline: 6144 });
    // Of 128 tokens the last 96 are recent ones.
    expect(row('int4: KV of a token')).toMatchObject({
      value: (32 * 1824 + 96 * 3264) / 128,
      baseline: 6144,
    });
    expect(row('int8: perplexity of the text').baseline).toBe(row('exact: perplexity of the text').value);
    expect(row('int8: KL divergence of a prediction, mean').value).toBeGreaterThan(0);
    expect(row('int8: KL divergence of a prediction, mean').value).toBeLessThan(50);
    expect(row("int8: greedy tokens that are exact's").value).toBeGreaterThan(80);
    expect(row('exact: right answers at 96 tokens, depth 100%')).toMatchObject({ unit: '%', baseline: null });
    expect(row('int8: decode step, 2 x 128 tokens').baseline).toBeGreaterThan(0);
    expect(row('int8: prompt of 128 tokens').baseline).toBeGreaterThan(0);

    const page = readFileSync(html, 'utf8');
    expect(page).toContain('prefers-color-scheme:dark');
    expect(page).not.toMatch(/https?:\/\/|src=|@import|url\(|NaN|undefined|Infinity/);
    // A map for each policy with a cell for each context and depth.
    expect(page.match(/<title>\d+, \d+%: /g)).toHaveLength(offeredPolicies.length * 4);
  });

  it('gives the same figures again, but for times', async () => {
    const args = ['quality', ...tiny, ...timed, '--policies', 'exact', '--samples', '3'];
    const quality = ({ names, row }: Awaited<ReturnType<typeof measure>>) =>
      names.filter((name) => !/prompt of|decode step/.test(name)).map((name) => [name, row(name).value]);
    const [once, again] = [await measure(...args), await measure(...args)];
    expect(quality(again)).toEqual(quality(once));
    expect(once.names.some((name) => name.startsWith('int8'))).toBe(false);
  });

  it('leaves times out where no turns are asked for', async () => {
    const args = [...tiny, '--repetitions', '0', '--policies', 'exact,zip'];
    const { names } = await measure('quality', ...args);
    expect(names).toContain('zip: perplexity of the text');
    expect(names.filter((name) => /prompt of|decode step/.test(name))).toEqual([]);
  });

  it('measures other models beside the one that is named', async () => {
    using folder = new Folder();
    // A copy foresees the same tokens to the last bit.
    cpSync(demoFolder, folder.at('copy'), { recursive: true });
    const { names, row } = await measure('quality', ...tiny, ...timed, '--beside', folder.at('copy'));
    expect(names.some((name) => name.startsWith('int8'))).toBe(false);
    expect(row('copy: perplexity of the text').ratio).toBe(1);
    expect(row('copy: KL divergence of a prediction, mean').value).toBe(0);
    expect(row("copy: answers that are exact's, token for token").value).toBe(100);

    writeFileSync(folder.at('copy/tokenizer.json'), '{}');
    const { code, stderr } = await benchHere('quality', ...tiny, ...timed, '--beside', folder.at('copy'));
    expect(code).toBe(1);
    expect(stderr).toContain('its tokenizer.json is not that of');
  });

  it.each([
    [['--policies', 'exact,int3'], '"int3" is none of exact, int8'],
    [['--contexts', '128,4096'], "--contexts 4096: the model's context is 2048 tokens"],
    [['--window', '3000'], "--window 3000: the model's context is 2048 tokens"],
    [['--contexts', '40'], 'timing decode steps takes'],
    [['--contexts', '40', ...timed], 'a context of 40 tokens is too short'],
    [['--depths', '0,101'], 'Expected percents from 0 to 100'],
    [['--samples', '0'], 'Expected a whole number of 1 or more'],
    [['--text', 'no-such-file.txt'], 'the text no-such-file.txt cannot be read'],
    [['no-such-folder'], 'no-such-folder'],
  ])('says what is wrong with %j', async (args, message) => {
    const { code, stderr } = await benchHere('quality', ...args);
    expect(code).toBe(1);
    expect(stderr).toContain(message);
  });
});

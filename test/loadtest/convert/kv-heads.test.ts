import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { EngineSettings, ModelSettings } from '../../../config/schema.js';
import { openDevice } from '../../../engine/index.js';
import { logitsAfter } from '../../../loadtest/device/workloads.js';
import { Random } from '../../../loadtest/random.js';
import { parseRows } from '../../../loadtest/rows.js';
import { Folder } from '../../scripts/support.js';
import { TandemProcess } from '../../server/commands/tandem-process.js';
import { demoFolder } from '../../support/demo.js';
import { makeVisionModel } from '../../support/vision-model.js';
import { convertHere } from '../run-here.js';
import { Float64Model } from './float64-model.js';
import { alikeHeads, writeTinyModel } from './tiny-attention-model.js';

const folder = new Folder();
const heldOutText = path.join(demoFolder, 'eval/ppl.txt');
const random = new Random(11);
const text = folder.at('text.txt');
/** As long as that of the calibration, and as random. */
const tokens = Array.from({ length: 40 }, () => 32 + random.below(90));

beforeAll(() => {
  const letters = Array.from({ length: 600 }, () => String.fromCharCode(32 + random.below(90)));
  writeFileSync(text, letters.join(''));
  writeTinyModel(folder.at('low-rank'), { lowRank: true });
  writeTinyModel(folder.at('biased'), { lowRank: true, biases: true, sharded: true });
  writeTinyModel(folder.at('full-rank'), { lowRank: false });
  writeTinyModel(folder.at('shared'), { lowRank: false, kvHeads: 2 });
  makeVisionModel(folder.at('reader'));
  folder.write('full/file', '');
  folder.write('short.txt', letters.slice(0, 300).join(''));
});
afterAll(() => folder.close());

const small = ['--window', '48', '--windows', '8'];

const convert = (...args: string[]) => convertHere('kv-heads', ...args);

/** Converts with the test's text; throws an Error with the output if that failed. */
async function converted(model: string, out: string, ...args: string[]): Promise<string> {
  const { code, stderr } = await convert(folder.at(model), folder.at(out), '--text', text, ...small, ...args);
  if (code !== 0) throw new Error(`ended with ${code}:\n${stderr}`);
  return folder.at(out);
}

function rowsOf(out: string) {
  return parseRows('kv-heads.json', readFileSync(path.join(out, 'kv-heads.json'), 'utf8'));
}

describe('tandem convert kv-heads', () => {
  it.each(['low-rank', 'biased'])('loses nothing of a cache that is low-rank (%s)', async (model) => {
    const out = await converted(model, `half-${model}`, '--keep', '0.5');
    const [before, after] = [new Float64Model(folder.at(model)), new Float64Model(out)];
    expect(after.config).toEqual({ ...before.config, num_key_value_heads: 2 });
    expect(after.shape('model.layers.0.self_attn.k_proj.weight')).toEqual([32, 64]);
    expect(after.shape('model.layers.1.self_attn.v_proj.weight')).toEqual([32, 64]);
    expect(after.names.sort()).toEqual(before.names.sort());
    const expected = before.logits(tokens);
    const errors = after.logits(tokens).map((logit, index) => Math.abs(logit - expected[index]!));
    expect(Math.max(...errors)).toBeLessThan(1e-4);
    expect(Math.max(...expected)).toBeGreaterThan(1);
    // In the report, who shares with whom.
    const page = readFileSync(path.join(out, 'kv-heads.html'), 'utf8');
    for (const heads of alikeHeads) expect(page).toContain(`${heads.join(' + ')} (closed form)`);
    expect(page).toContain('prefers-color-scheme:dark');
    expect(page).not.toMatch(/https?:\/\/|src=|@import|url\(|NaN|undefined|Infinity/);
  });

  it('makes a model that Tandem serves as an independent reader of the folder computes it', async () => {
    const out = await converted('full-rank', 'served', '--keep', '0.25', '--method', 'svd');
    const { device } = await openDevice({
      model: ModelSettings.parse({ path: out, weights: 'bf16' }),
      engine: EngineSettings.parse({ maxSequences: 1, cores: 1 }),
    });
    try {
      expect(device.info.spec.kvHeads).toBe(1);
      const expected = new Float64Model(out).logits(tokens);
      const size = Math.sqrt(expected.reduce((sum, logit) => sum + logit * logit, 0) / expected.length);
      const logits = await logitsAfter(device, tokens);
      const error = Math.sqrt(
        expected.reduce((sum, logit, index) => sum + (logit - logits[index]!) ** 2, 0) / expected.length,
      );
      expect(error).toBeLessThan(0.05 * size);
    } finally {
      await device.close();
    }
  });

  it('is far nearer to the original than averages, and says by how much', async () => {
    const demo = async (out: string, ...args: string[]) => {
      const text = ['--text', heldOutText, '--window', '64', '--windows', '8'];
      const { code, stderr } = await convert(demoFolder, folder.at(out), '--keep', '0.5', ...text, ...args);
      expect(code, stderr).toBe(0);
      return (name: string) => rowsOf(folder.at(out)).find((row) => row.name === name)!;
    };
    const fitted = await demo('demo-fit');
    const mean = await demo('demo-mean', '--method', 'mean');
    const perplexity = 'perplexity of calibration text';
    expect(fitted(perplexity).baseline).toBe(mean(perplexity).baseline);
    expect(fitted(perplexity).ratio! - 1).toBeLessThan(0.5 * (mean(perplexity).ratio! - 1));
    expect(fitted('KV of a token in bf16')).toMatchObject({ value: 3072, baseline: 6144 });
    // Of each layer the baseline is the closed form.
    for (let layer = 0; layer < 6; layer += 1) {
      const { value, baseline } = fitted(`layer ${layer}: KL divergence of attention`);
      expect(value).toBeLessThanOrEqual(baseline!);
    }
  });

  it('loses what heads have that are no kin, if neighbours must share', async () => {
    const out = await converted('low-rank', 'index', '--keep', '0.5', '--groups', 'index', '--method', 'svd');
    const expected = new Float64Model(folder.at('low-rank')).logits(tokens);
    const errors = new Float64Model(out).logits(tokens).map((logit, at) => Math.abs(logit - expected[at]!));
    expect(Math.max(...errors)).toBeGreaterThan(0.1);
  });

  it('goes on where it was stopped, and ends as if it had not been', async () => {
    const few = [
      '--keep',
      '0.25',
      '--text',
      heldOutText,
      '--window',
      '32',
      '--windows',
      '3',
      '--method',
      'svd',
    ];
    const whole = folder.at('whole');
    expect((await convert(demoFolder, whole, ...few)).code).toBe(0);
    const args = [demoFolder, folder.at('stopped'), ...few];
    const run = new TandemProcess(['convert', 'kv-heads', ...args]);
    await run.until('stderr', /layer 1 of 6/);
    await run.kill();
    expect(existsSync(folder.at('stopped'))).toBe(false);
    const other = await convert(...args, '--method', 'mean');
    expect(other.code).toBe(1);
    expect(other.stderr).toContain('stopped.partial holds a conversion that was stopped');

    const { code, stderr } = await convert(...args);
    expect(code).toBe(0);
    expect(stderr).not.toContain('layer 1 of 6');
    expect(stderr).toContain('layer 6 of 6');
    const weights = (out: string) => readFileSync(path.join(out, 'model.safetensors'));
    expect(weights(folder.at('stopped')).equals(weights(whole))).toBe(true);
    expect(readdirSync(folder.at('stopped')).sort()).toEqual(readdirSync(whole).sort());
    expect(existsSync(folder.at('stopped.partial'))).toBe(false);
  });

  it('lets the model write the text that it is calibrated on', async () => {
    const { code, stderr } = await convert(
      ...[folder.at('full-rank'), folder.at('own'), '--keep', '0.5', '--method', 'svd'],
      ...['--window', '24', '--windows', '2'],
    );
    expect(code, stderr).toBe(0);
    expect(stderr).toContain('the model writes 2 texts of 24 tokens');
    expect(new Float64Model(folder.at('own')).config.num_key_value_heads).toBe(2);
  });

  const model = folder.at('full-rank');
  const out = folder.at('refused');
  const half = ['--keep', '0.5', '--text', text, ...small];
  it.each([
    [[model, out], "required option '--keep <part>' not specified"],
    [[model, out, '--keep', '2'], 'Expected a part such as 0.5'],
    [
      [model, out, '--keep', '0.3'],
      '--keep 0.3 of 4 heads gives groups of unequal size; possible are 0.25, 0.5',
    ],
    [[model, out, '--keep', '1'], 'nothing is to be done'],
    [[folder.at('shared'), out, ...half], 'shares KV heads already (2 for 4 heads)'],
    [[folder.at('reader'), out, ...half], 'the model reads images (idefics3)'],
    [[folder.at('nowhere'), out, ...half], 'there is no such folder'],
    [[model, folder.at('full'), ...half], 'full is not empty: name a new folder, or remove this one'],
    [[model, out, '--keep', '0.5', '--window', '300'], "--window 300: the model's context is 256 tokens"],
    [[model, out, '--keep', '0.5', '--text', folder.at('short.txt'), '--window', '200'], 'two windows'],
    [[model, out, '--keep', '0.5', '--text', folder.at('no.txt')], 'cannot be read'],
  ])('says what is wrong with %j', async (args, message) => {
    const { code, stderr } = await convert(...args);
    expect(stderr).toContain(message);
    expect(code).toBe(1);
    expect(existsSync(out)).toBe(false);
  });
});

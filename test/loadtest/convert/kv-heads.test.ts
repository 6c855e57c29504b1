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
import { Float64Model } from './float64-model.js';
import { alikeHeads, writeTinyModel } from './tiny-attention-model.js';

const folder = new Folder();
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
});
afterAll(() => folder.close());

const small = ['--window', '48', '--windows', '8'];

async function convert(...args: string[]) {
  const run = new TandemProcess(['convert', 'kv-heads', ...args]);
  const code = await run.exit;
  return { code, stdout: run.stdout, stderr: run.stderr };
}

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

  it('is nearer to the original than averages and neighbours, and says by how much', async () => {
    const perplexity = (out: string) =>
      rowsOf(out).find(({ name }) => name === 'perplexity of calibration text')!;
    const fit = await converted('full-rank', 'fit', '--keep', '0.5');
    const mean = await converted('full-rank', 'mean', '--keep', '0.5', '--method', 'mean');
    const index = await converted(
      'low-rank',
      'index',
      '--keep',
      '0.5',
      '--groups',
      'index',
      '--method',
      'svd',
    );
    const distance = (model: string, out: string) => {
      const expected = new Float64Model(folder.at(model)).logits(tokens);
      const found = new Float64Model(out).logits(tokens);
      return Math.sqrt(
        expected.reduce((sum, logit, at) => sum + (logit - found[at]!) ** 2, 0) / expected.length,
      );
    };
    expect(distance('full-rank', fit)).toBeLessThan(0.8 * distance('full-rank', mean));
    // Neighbours have nothing in common here.
    expect(distance('low-rank', index)).toBeGreaterThan(0.1);
    expect(perplexity(fit).baseline).toBe(perplexity(mean).baseline);
    expect(rowsOf(fit).find(({ name }) => name === 'KV of a token in bf16')).toMatchObject({
      value: 2 * 2 * 16 * 2 * 2,
      baseline: 2 * 4 * 16 * 2 * 2,
    });
    const fitted = rowsOf(fit).filter(({ name }) => name.endsWith('KL divergence of attention'));
    expect(fitted).toHaveLength(2);
    for (const { value, baseline } of fitted) expect(value).toBeLessThanOrEqual(baseline!);
    expect(fitted.some(({ ratio }) => ratio! < 0.9)).toBe(true);
  });

  it('goes on where it was stopped, and ends as if it had not been', async () => {
    const whole = await converted('full-rank', 'whole', '--keep', '0.5');
    const args = [folder.at('full-rank'), folder.at('stopped'), '--keep', '0.5', '--text', text, ...small];
    const run = new TandemProcess(['convert', 'kv-heads', ...args]);
    await run.until('stderr', /layer 1 of 2/);
    run.child.kill('SIGKILL');
    await run.exit;
    expect(existsSync(folder.at('stopped'))).toBe(false);
    const other = await convert(...args, '--method', 'svd');
    expect(other.code).toBe(1);
    expect(other.stderr).toContain('stopped.partial holds a conversion that was stopped');

    const { code, stderr } = await convert(...args);
    expect(code).toBe(0);
    expect(stderr).not.toContain('layer 1 of 2');
    expect(stderr).toContain('layer 2 of 2');
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

  it('says what is wrong before it computes', async () => {
    folder.write('full/file', '');
    folder.write('short.txt', readFileSync(text, 'utf8').slice(0, 300));
    const model = folder.at('full-rank');
    const out = folder.at('refused');
    const half = ['--keep', '0.5', '--text', text, ...small];
    const shared = await converted('full-rank', 'shared', '--keep', '0.5', '--method', 'mean');
    const cases: [string[], string][] = [
      [[model, out], "required option '--keep <part>' not specified"],
      [[model, out, '--keep', '2'], 'Expected a part such as 0.5'],
      [
        [model, out, '--keep', '0.3'],
        '--keep 0.3 of 4 heads gives groups of unequal size; possible are 0.25, 0.5',
      ],
      [[model, out, '--keep', '1'], 'nothing is to be done'],
      [[shared, out, ...half], 'shares KV heads already (2 for 4 heads)'],
      [[folder.at('nowhere'), out, ...half], 'there is no such folder'],
      [[model, folder.at('full'), ...half], 'full is not empty: name a new folder, or remove this one'],
      [[model, out, '--keep', '0.5', '--window', '300'], "--window 300: the model's context is 256 tokens"],
      [[model, out, '--keep', '0.5', '--text', folder.at('short.txt'), '--window', '200'], 'two windows'],
      [[model, out, '--keep', '0.5', '--text', folder.at('no.txt')], 'cannot be read'],
    ];
    for (const [args, message] of cases) {
      const { code, stderr } = await convert(...args);
      expect(stderr).toContain(message);
      expect(code).toBe(1);
    }
    expect(existsSync(out)).toBe(false);
  });
});

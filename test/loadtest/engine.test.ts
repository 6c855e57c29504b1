import { describe, expect, it } from 'vitest';
import { Folder } from '../scripts/support.js';
import { demoFolder } from '../support/demo.js';
import { measure } from './bench.js';
import { benchHere } from './run-here.js';

describe('tandem bench engine', () => {
  it('reads prompts and extends sequences, with each class of weights compared to the first', async () => {
    const { names, row } = await measure(
      ...['engine', '--model', demoFolder, '--weights', 'int8,bf16', '--repetitions', '1'],
      ...['--prompts', '40', '--sequences', '1,3', '--context', '8', '--generate', '4'],
    );
    expect(names).toEqual(
      ['pp40', 'tg4 at 8, 1 together', 'tg4 at 8, 3 together'].flatMap((workload) => [
        `int8, KV exact, ${workload}`,
        `bf16, KV exact, ${workload}`,
      ]),
    );
    expect(row('bf16, KV exact, pp40')).toMatchObject({
      unit: 'tok/s',
      baseline: row('int8, KV exact, pp40').value,
    });
  });

  it('packs KV as the engine would, and says how fast', async () => {
    const { names, row } = await measure(
      ...['engine', '--model', demoFolder, '--kv', 'exact,int4', '--repetitions', '1'],
      ...['--prompts', '40', '--sequences', '2', '--context', '192', '--generate', '4'],
    );
    expect(names).toEqual([
      'int8, KV exact, pp40',
      'int8, KV int4, pp40',
      'int8, KV exact, tg4 at 192, 2 together',
      'int8, KV int4, tg4 at 192, 2 together',
      'int8, KV int4, packing 128 of 192',
    ]);
    expect(row('int8, KV int4, packing 128 of 192')).toMatchObject({ unit: 'tok/s', baseline: null });
  });

  it('shows how step time grows with context and with sequences', async () => {
    const { names, row } = await measure(
      ...['engine', '--model', demoFolder, '--growth', '--repetitions', '1', '--step-tokens', '32'],
      ...['--contexts', '64,128', '--growth-sequences', '1,2'],
    );
    expect(names).toEqual([
      'decode step, 1 sequence of 64 tokens',
      'decode step, 1 sequence of 128 tokens',
      'prefill step of 32 after 64 tokens',
      'prefill step of 32 after 128 tokens',
      'decode step, 1 sequence of 256 tokens',
      'decode step, 2 sequences of 256 tokens',
    ]);
    expect(row('decode step, 1 sequence of 128 tokens').baseline).toBe(
      row('decode step, 1 sequence of 64 tokens').value,
    );
  });

  it('runs on a model of random weights that it has made', async () => {
    using folder = new Folder();
    const model = folder.at('model');
    const shape = '--layers 1 --hidden 64 --heads 2 --kv-heads 1 --head-dim 32 --ffn 96 --vocab 512'.split(
      ' ',
    );
    expect(await benchHere('random-model', model, ...shape)).toMatchObject({ code: 0, stdout: '' });
    const { row } = await measure(
      ...['engine', '--model', model, '--repetitions', '1'],
      ...['--prompts', '32', '--sequences', '1', '--context', '4', '--generate', '2'],
    );
    expect(row('int8, KV exact, pp32').value).toBeGreaterThan(0);
  });

  it('names contexts that do not rise', async () => {
    const args = ['--model', demoFolder, '--growth', '--step-tokens', '32', '--contexts', '64,80'];
    expect(await benchHere('engine', ...args)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('80 after 64: expected at least 48 more'),
    });
  });
});

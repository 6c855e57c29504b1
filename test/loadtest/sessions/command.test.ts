import { describe, expect, it } from 'vitest';
import { cudaInfo } from '../../../engine/device/native.js';
import { measure } from '../bench.js';
import { benchHere } from '../run-here.js';

const small = ['--sink-tokens', '32', '--recent-tokens', '128', '--mid-tokens', '256', '--top-pages', '4'];

describe('tandem bench sessions', () => {
  it('holds a session in its partitions, and asks for what it was told', async () => {
    const { names, row } = await measure(
      'sessions',
      ...['--tokens', '5000', '--turn', '128', '--distances', '64,2000', '--cores', '1'],
      ...small,
    );
    const held = names.filter((name) => name.startsWith('KV held'));
    // A stretch to 2048 tokens, to twice and to the end.
    expect(held).toHaveLength(3);
    expect(names.filter((name) => name.startsWith('decode step'))).toHaveLength(3);
    // Of 6 layers of 4 heads of 64: sink, recent and what moves next as bf16, mid and what is packed next as int4.
    const most = (((32 + 128 + 128) / 32 + 1) * 196_608 + ((256 + 128) / 32) * 58_368) / 2 ** 20;
    for (const name of held) {
      expect(row(name).value).toBeGreaterThan(0);
      expect(row(name).value).toBeLessThanOrEqual(most);
    }
    const asked = names.filter((name) => /^right answers, \d+ facts/.test(name));
    expect(asked.map((name) => name.split(' facts ')[1])).toEqual(['64 tokens back', '2000 tokens back']);
    expect(names.at(-1)).toMatch(/^right answers, the first fact, asked 3 times$/);
  });

  it.skipIf(cudaInfo().devices.length > 0)(
    'does not fall to the processor where a GPU is asked for',
    async () => {
      const { code, stderr } = await benchHere('sessions', '--device', 'cuda');
      expect(code).toBe(1);
      expect(stderr).toContain('cuda');
    },
  );

  it('refuses partitions that cannot be', async () => {
    const { code, stderr } = await benchHere('sessions', '--top-pages', '100');
    expect(code).not.toBe(0);
    expect(stderr).toContain('Lower --pack-top-pages');
  });
});

import { describe, expect, it } from 'vitest';
import { importScript } from './support.js';

const { Report } = await importScript('report.mjs');

/** What is written while two steps run beside each other, the second of which fails. Seconds are left out. */
async function writtenTo(isTTY: boolean): Promise<string> {
  let written = '';
  const report = new Report({ isTTY, write: (text: string) => (written += text) });
  let endFirst = () => {};
  const first = report.during('baking', (progress: (fraction: number) => void) => {
    progress(0.3);
    progress(0.31);
    return new Promise<void>((resolve) => (endFirst = resolve));
  });
  const second = report.during('washing', () => Promise.reject(new Error('no water')));
  await expect(second).rejects.toThrow('no water');
  endFirst();
  await first;
  return written.replaceAll(/\d+\.\d s/g, 'N s');
}

describe('the report of set-up', () => {
  it('is plain lines that name their step', async () => {
    expect(await writtenTo(false)).toBe(
      [
        'tandem: baking',
        'tandem: baking 30%',
        'tandem: washing',
        'tandem: washing: failed',
        'tandem: baking: done (N s)',
        '',
      ].join('\n'),
    );
  });

  it('is one line on a terminal that says all that runs, above which ends stay', async () => {
    const lines = (await writtenTo(true)).split('\n').map((line) => line.split('\r\x1b[K').at(-1));
    expect(lines).toEqual(['tandem: washing: failed', 'tandem: baking (N s)', '']);
    expect(await writtenTo(true)).toContain('\r\x1b[Ktandem: baking 31%, washing\r');
  });
});

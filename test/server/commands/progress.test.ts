import { describe, expect, it } from 'vitest';
import { LoadProgress } from '../../../server/commands/progress.js';

class Output {
  text = '';
  constructor(readonly isTTY: boolean) {}
  write(text: string): void {
    this.text += text;
  }
}

describe('load progress', () => {
  it('is one plain line a quarter where there is no terminal', () => {
    const output = new Output(false);
    const progress = new LoadProgress('loading', output);
    for (let done = 0; done <= 1000; done += 10) progress.update(done * 1e6, 1e9);
    progress.end();
    expect(output.text).toBe([25, 50, 75, 100].map((percent) => `loading: ${percent}% of 1.0 GB\n`).join(''));
  });

  it('is a bar on a terminal that is gone at the end', () => {
    const output = new Output(true);
    const progress = new LoadProgress('loading', output);
    progress.update(5e6, 10e6);
    expect(output.text).toContain(`${'█'.repeat(15)}${'░'.repeat(15)} 5.0 MB of 10 MB`);
    progress.end();
    expect(output.text.endsWith('\r\x1b[K')).toBe(true);
    expect(output.text).not.toContain('\n');
  });

  it('shows nothing for a load that is over at once', () => {
    const output = new Output(false);
    const progress = new LoadProgress('loading', output);
    progress.update(0, 0);
    progress.update(10e6, 10e6);
    expect(output.text).toBe('');
  });
});

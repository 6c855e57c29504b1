import { describe, expect, it } from 'vitest';
import { UnitUse } from '../../engine/unit-use.js';

const prompt = { work: 0, tokens: 64, isPrompt: true };
const stream = { work: 1, tokens: 1, isPrompt: false };

describe('what the compute units did', () => {
  it('counts steps by what they do', () => {
    const use = new UnitUse();
    use.begin({ lane: 'prefill', units: 3, chunks: [prompt, prompt] }, 1000);
    use.begin({ lane: 'decode', units: 1, chunks: [stream] }, 1000);
    use.end('decode', 2000);
    use.end('prefill', 3000);
    use.begin({ lane: 'prefill', units: 4, chunks: [prompt, stream] }, 3000);
    use.end('prefill', 3500);
    expect(use.until(9000)).toEqual({ prefill: 6, decode: 1, mixed: 2 });
  });

  it('counts a step in flight up to now, and not twice', () => {
    const use = new UnitUse();
    use.begin({ lane: 'prefill', units: 2, chunks: [prompt] }, 0);
    expect(use.until(500).prefill).toBe(1);
    expect(use.until(1500).prefill).toBe(3);
    use.end('prefill', 2000);
    use.end('prefill', 5000);
    expect(use.until(5000)).toEqual({ prefill: 4, decode: 0, mixed: 0 });
  });
});

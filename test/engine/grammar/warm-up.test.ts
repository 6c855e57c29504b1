import { describe, expect, it } from 'vitest';
import { warmUp } from '../../../engine/grammar/warm-up.js';
import { compileGrammar } from '../../../engine/index.js';

describe('warming up what compiles grammars', () => {
  it('comes to an end, and changes nothing of what is compiled then', () => {
    const source = {
      type: 'schema',
      schema: { properties: { at: { format: 'time' }, n: { type: 'integer' } } },
      lenient: false,
    } as const;
    const before = compileGrammar(source);
    expect([...warmUp()].length).toBeGreaterThan(10);
    expect(compileGrammar(source)).toEqual(before);
  });
});

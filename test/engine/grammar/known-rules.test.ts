import { describe, expect, it } from 'vitest';
import { knownRules } from '../../../engine/grammar/known-rules.js';
import { compileGrammar } from '../../../engine/index.js';

describe('rules that schemas have in common', () => {
  it('are compiled once, formats where they are called', () => {
    expect(knownRules().has('format uuid')).toBe(false);
    const [called, again] = [knownRules(['format uuid', 'ref 0']), knownRules(['format uuid'])];
    expect(again.get('format uuid')).toBe(called.get('format uuid'));
    expect(again.get('number')).toBe(knownRules().get('number'));
    expect(called.has('ref 0')).toBe(false);
  });

  it.each(['constructor', '__proto__'])('are not made of what every object has: %s', (name) => {
    expect(knownRules([`format ${name}`, name])).toEqual(knownRules());
  });

  it('stand behind the states of a schema, of which there are few', () => {
    const properties = {
      at: { type: 'string', format: 'date-time' },
      id: { format: 'uuid' },
      n: { type: 'number' },
    };
    const { tables } = compileGrammar({
      type: 'schema',
      schema: { type: 'object', properties },
      lenient: false,
    });
    const own = tables.ruleStarts[1]!;
    expect(own).toBeLessThan(60);
    expect(tables.accepting.length - own).toBeGreaterThan(150);
  });
});

import { Command } from 'commander';
import { describe, expect, it } from 'vitest';
import { addSettingFlags, givenFlags } from '../../config/flags.js';
import { nearest } from '../../config/nearest.js';
import { options, optionsByKey } from '../../config/options.js';

function parse(...argv: string[]): Record<string, unknown> {
  const command = new Command().exitOverride().configureOutput({ writeErr: () => {} });
  addSettingFlags(command, ['model', 'engine', 'server', 'log']);
  command.parse(argv, { from: 'user' });
  return givenFlags(command);
}

describe('options', () => {
  it('derives flag and environment names from the key', () => {
    expect(optionsByKey.get('engine.maxSequences')).toMatchObject({
      flag: 'max-sequences',
      env: 'TANDEM_MAX_SEQUENCES',
      type: 'integer',
      default: 64,
    });
    expect(optionsByKey.get('model.path')).toMatchObject({
      flag: 'model',
      env: 'TANDEM_MODEL',
      type: 'file',
    });
    expect(optionsByKey.get('server.bodyLimit')).toMatchObject({ type: 'bytes', default: 16 * 2 ** 20 });
    expect(optionsByKey.get('engine.isa')).toMatchObject({ env: 'TANDEM_ISA', default: undefined });
  });

  it('gives each setting a flag of its own and a help text', () => {
    expect(new Set(options.map(({ flag }) => flag)).size).toBe(options.length);
    for (const option of options) expect(option.description, option.key).not.toBe('');
  });
});

describe('flags', () => {
  it('collects what was given and nothing else', () => {
    expect(parse('--port', '1', '--api-key', 'a', '--api-key', 'b,c', '--model', 'm')).toEqual({
      'server.port': '1',
      'server.apiKey': ['a', 'b,c'],
      'model.path': 'm',
    });
  });

  it('has both forms of a switch', () => {
    expect(parse('--no-prefix-cache')).toEqual({ 'engine.prefixCache': false });
    expect(parse('--prefix-cache')).toEqual({ 'engine.prefixCache': true });
    expect(parse('--check-finite')).toEqual({ 'model.checkFinite': true });
    expect(parse('--no-check-finite')).toEqual({ 'model.checkFinite': false });
    expect(parse()).toEqual({});
  });

  it('names the nearest flag', () => {
    expect(() => parse('--max-sequence', '1')).toThrow(/max-sequences/);
  });
});

describe('nearest', () => {
  it('finds a mistyped word, a swap included, and nothing where nothing is like it', () => {
    expect(nearest('srever', ['model', 'server'])).toBe('server');
    expect(nearest('doctr', ['serve', 'doctor'])).toBe('doctor');
    expect(nearest('zebra', ['serve', 'doctor'])).toBeUndefined();
  });
});

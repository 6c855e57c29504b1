import { describe, expect, it } from 'vitest';
import { processorName } from '../../config/processor-name.js';

describe("the processor's name", () => {
  it('is its model', () => {
    expect(processorName('AMD EPYC  ', 'x64')).toBe('AMD EPYC');
  });

  it('is its architecture where Node.js does not know the model', () => {
    expect(processorName('unknown', 'arm64')).toBe('arm64 processor');
    expect(processorName(' ', 'arm64')).toBe('arm64 processor');
  });
});

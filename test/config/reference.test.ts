import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { renderReference } from '../../config/reference.js';

describe('docs/configuration.md', () => {
  it('is what the schema renders to (npm run docs)', () => {
    const committed = readFileSync(new URL('../../docs/configuration.md', import.meta.url), 'utf8');
    expect(committed).toBe(renderReference());
  });
});

import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { Settings } from '../../../config/schema.js';
import { readKeys } from '../../../server/keys/read-keys.js';

const folders: string[] = [];
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

function read(content: unknown, apiKey: string[] = []) {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'tandem-keys-'));
  folders.push(folder);
  const apiKeyFile = path.join(folder, 'keys');
  writeFileSync(apiKeyFile, typeof content === 'string' ? content : JSON.stringify(content));
  return readKeys(Settings.parse({ server: { apiKey, apiKeyFile } }).server);
}

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');

describe('keys of a server', () => {
  it('come a line each, and are known by their hashes', async () => {
    const keys = await read('# ours\n\n  one \ntwo\n', ['three']);
    expect(keys.map(({ hash }) => hash.toString('hex'))).toEqual(['three', 'one', 'two'].map(sha256));
    expect(keys.map(({ name }) => name)).toEqual(
      ['three', 'one', 'two'].map((key) => `key-${sha256(key).slice(0, 8)}`),
    );
  });

  it('come as JSON with names and limits, in clear or hashed', async () => {
    const keys = await read([
      { name: 'anna', key: 'one', requestsPerMinute: 3, maxPriority: 0 },
      { name: 'ben', sha256: sha256('two'), tokensPerDay: 1000, kvPressure: 'int8' },
    ]);
    expect(keys).toMatchObject([
      { name: 'anna', requestsPerMinute: 3, maxPriority: 0 },
      { name: 'ben', tokensPerDay: 1000, kvPressure: 'int8' },
    ]);
    expect(keys.map(({ hash }) => hash.toString('hex'))).toEqual([sha256('one'), sha256('two')]);
    expect(JSON.stringify(keys)).not.toContain('"one"');
  });

  it.each([
    ['', 'holds no key'],
    ['[{"name":', 'JSON'],
    [[{ name: 'anna' }], 'expected key or sha256'],
    [[{ name: 'anna', key: 'a', sha256: sha256('a') }], 'expected key or sha256'],
    [[{ name: 'a b', key: 'a' }], '0.name: expected 1 to 64 letters'],
    [[{ name: 'a', key: 'a', tokensPerMinute: 0 }], '0.tokensPerMinute'],
    [[{ name: 'a', key: 'a', rpm: 5 }], 'rpm'],
    ['one\none\n', 'is given twice'],
    [
      [
        { name: 'anna', key: 'a', tokensPerDay: 1000 },
        { name: 'ben', sha256: sha256('a') },
      ],
      "'anna' and 'ben' are the same key",
    ],
  ])('are refused with what is wrong: %j', async (content, message) => {
    await expect(read(content)).rejects.toThrow(message);
  });
});

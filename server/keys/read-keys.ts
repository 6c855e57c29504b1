import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { pressureLevels } from '../../config/kv-pressure.js';
import { ConfigError } from '../../config/resolve.js';
import type { ServerSettings } from '../../config/schema.js';
import { hashOf, type KnownKey } from './key-ring.js';

const limit = z.int().min(1).optional();

const Entry = z
  .strictObject({
    name: z.string().regex(/^[\w.-]{1,64}$/, 'expected 1 to 64 letters, digits, _, . or -'),
    key: z.string().min(1).optional(),
    sha256: z
      .string()
      .regex(/^[\da-f]{64}$/i, 'expected the 64 hexadecimal digits of a sha256')
      .optional(),
    requestsPerMinute: limit,
    tokensPerMinute: limit,
    tokensPerDay: limit,
    maxPriority: z.int().min(-100).max(100).optional(),
    kvPressure: z.enum(pressureLevels).optional(),
  })
  .refine(({ key, sha256 }) => (key === undefined) !== (sha256 === undefined), 'expected key or sha256');

/** All keys of the settings and of `--api-key-file`. Rejects with `ConfigError`, or as the file cannot be read. */
export async function readKeys({ apiKey, apiKeyFile }: ServerSettings): Promise<KnownKey[]> {
  const fromFile = apiKeyFile === undefined ? [] : parseFile(apiKeyFile, await readFile(apiKeyFile, 'utf8'));
  const known = [...apiKey.map(unnamed), ...fromFile];
  if (apiKeyFile !== undefined && known.length === 0) {
    // Without a key everyone may come: nobody who names a file wants that.
    throw new ConfigError([`--api-key-file ${apiKeyFile} holds no key`]);
  }
  for (const [index, { name, hash }] of known.entries()) {
    for (const other of known.slice(0, index)) {
      if (other.name === name) throw new ConfigError([`the API key '${name}' is given twice`]);
      // Whose limits would hold, and whose responses would they be?
      if (other.hash.equals(hash)) {
        throw new ConfigError([`the API keys '${other.name}' and '${name}' are the same key`]);
      }
    }
  }
  return known;
}

/** A key a line, or a JSON array of keys with names and limits. */
function parseFile(file: string, text: string): KnownKey[] {
  if (!text.trimStart().startsWith('[')) {
    const lines = text.split('\n').map((line) => line.trim());
    return lines.filter((line) => line !== '' && !line.startsWith('#')).map(unnamed);
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new ConfigError([`--api-key-file ${file}: ${(error as Error).message}`]);
  }
  const parsed = z.array(Entry).safeParse(json);
  if (!parsed.success) {
    throw new ConfigError(
      parsed.error.issues.map(({ path, message }) => `--api-key-file ${file}: ${path.join('.')}: ${message}`),
    );
  }
  return parsed.data.map(({ key, sha256, ...rules }) => ({
    ...rules,
    hash: sha256 === undefined ? hashOf(key!) : Buffer.from(sha256, 'hex'),
  }));
}

/** Named by its hash: what a key owns stays its own while it is in use, and the name tells nothing of it. */
function unnamed(key: string): KnownKey {
  const hash = hashOf(key);
  return { name: `key-${hash.toString('hex', 0, 4)}`, hash };
}

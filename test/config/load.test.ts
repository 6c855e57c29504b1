import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { loadConfig } from '../../config/load.js';

describe('config file', () => {
  let folder: string;

  beforeEach(() => {
    folder = mkdtempSync(path.join(tmpdir(), 'tandem-config-'));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  it('is read where --config points', () => {
    const configFile = path.join(folder, 'my.json');
    writeFileSync(configFile, '{ "server": { "port": 4321 } }');
    expect(loadConfig({ flags: {}, configFile }).settings.server.port).toBe(4321);
  });

  it('that does not exist or is no JSON is named', () => {
    const configFile = path.join(folder, 'my.json');
    expect(() => loadConfig({ flags: {}, configFile })).toThrow('my.json does not exist');
    writeFileSync(configFile, '{ "server": ');
    expect(() => loadConfig({ flags: {}, configFile })).toThrow(/my\.json: .*JSON/);
  });
});

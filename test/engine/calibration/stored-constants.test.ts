import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { cacheFolder } from '../../../config/cache-folder.js';
import {
  type ConstantsKey,
  constantsFile,
  loadConstants,
  saveConstants,
} from '../../../engine/calibration/stored-constants.js';
import { presetFor } from '../../../engine/scheduler/presets.js';
import { plainConstants, tinySpec } from '../scheduler/cost-model-case.js';

const key: ConstantsKey = {
  device: { kind: 'cpu', name: 'Some Processor', isa: 'avx2', units: 100 },
  spec: tinySpec,
  weights: 'int8',
};

describe('stored constants', () => {
  let folder: string;
  beforeEach(() => {
    folder = path.join(mkdtempSync(path.join(tmpdir(), 'tandem-constants-')), 'made', 'when needed');
  });
  afterEach(() => rmSync(path.dirname(path.dirname(folder)), { recursive: true }));

  it('are the preset, until the device was calibrated', () => {
    const loaded = loadConstants(folder, key);
    expect(loaded).toEqual({
      constants: presetFor(key.device, 'int8'),
      source: 'preset',
      origin: 'avx2 processor',
    });
    const file = saveConstants(folder, key, plainConstants({}));
    expect(loadConstants(folder, key)).toEqual({
      constants: plainConstants({}),
      source: 'calibrated',
      origin: file,
    });
    expect(readdirSync(folder)).toEqual([path.basename(file)]);
  });

  it("belong to a device, to weights and to a model's shape", () => {
    const others: ConstantsKey[] = [
      { ...key, weights: 'int4' },
      { ...key, device: { ...key.device, units: 50 } },
      { ...key, device: { ...key.device, isa: 'amx' } },
      { ...key, device: { ...key.device, name: 'Another' } },
      { ...key, spec: { ...tinySpec, layers: 3 } },
    ];
    const files = [key, ...others].map((one) => constantsFile(folder, one));
    expect(new Set(files).size).toBe(files.length);
  });

  it('that are broken are passed over, and it is said why', () => {
    const file = saveConstants(folder, key, plainConstants({}));
    writeFileSync(file, '{"units": 100}');
    expect(loadConstants(folder, key)).toMatchObject({
      source: 'preset',
      problem: expect.stringMatching(/memory: expected an object.*tandem calibrate/),
    });
    writeFileSync(file, '{"un');
    expect(loadConstants(folder, key)).toMatchObject({ source: 'preset', problem: expect.any(String) });
    saveConstants(folder, key, { ...plainConstants({}), units: 99 });
    expect(loadConstants(folder, key).problem).toContain('units is 99, the device has 100');
  });
});

describe('the cache folder', () => {
  it('is where XDG says, else in the home folder', () => {
    expect(cacheFolder({ XDG_CACHE_HOME: '/var/cache' })).toBe('/var/cache/tandem');
    for (const env of [{}, { XDG_CACHE_HOME: '' }, { XDG_CACHE_HOME: 'relative' }]) {
      expect(cacheFolder(env)).toMatch(/\/\.cache\/tandem$/);
    }
  });
});

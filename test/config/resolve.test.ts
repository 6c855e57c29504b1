import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { optionsByKey } from '../../config/options.js';
import { printConfig } from '../../config/print.js';
import { ConfigError, type ConfigInputs, resolveConfig } from '../../config/resolve.js';

const nothing: ConfigInputs = { flags: {}, env: {}, cwd: '/here', packageRoot: '/package' };

function resolve(inputs: Partial<ConfigInputs>) {
  return resolveConfig({ ...nothing, ...inputs });
}

function problems(inputs: Partial<ConfigInputs>): readonly string[] {
  try {
    resolve(inputs);
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
  throw new Error('the configuration was accepted');
}

function file(content: unknown) {
  return { file: { path: '/etc/tandem/tandem.config.json', content } };
}

describe('merge order', () => {
  const everywhere = {
    flags: { 'server.port': '1001' },
    env: { TANDEM_PORT: '1002', TANDEM_MAX_QUEUE: '12' },
    ...file({ server: { port: 1003, host: '::1' }, engine: { maxQueue: 13 } }),
  };

  it('lets a flag win over the environment, that over the file, that over the default', () => {
    const { settings } = resolve(everywhere);
    expect(settings.server.port).toBe(1001);
    expect(settings.engine.maxQueue).toBe(12);
    expect(settings.server.host).toBe('::1');
    expect(settings.engine.maxSequences).toBe(64);
  });

  it('says where each value came from', () => {
    const { sources } = resolve(everywhere);
    expect(sources.get('server.port')).toBe('flag');
    expect(sources.get('engine.maxQueue')).toBe('environment');
    expect(sources.get('server.host')).toBe('file');
    expect(sources.get('engine.maxSequences')).toBe('default');
    expect([...sources.keys()]).toEqual([...optionsByKey.keys()]);
  });

  it('gives settings that cannot be changed', () => {
    const { settings } = resolve({ flags: { 'server.apiKey': ['a'] } });
    expect(() => Object.assign(settings.server, { port: 1 })).toThrow(TypeError);
    expect(() => (settings.server.apiKey as string[]).push('b')).toThrow(TypeError);
  });
});

describe('values', () => {
  it.each([
    ['1073741824', 2 ** 30],
    ['512MiB', 512 * 2 ** 20],
    ['4GB', 4e9],
    ['1.5g', 1.5 * 2 ** 30],
    ['10 KB', 10_000],
    ['0', 0],
  ])('reads %s as bytes', (text, bytes) => {
    expect(resolve({ env: { TANDEM_KV_MEMORY: text } }).settings.engine.kvMemory).toBe(bytes);
  });

  it('reads switches and lists from text', () => {
    const { settings } = resolve({
      env: { TANDEM_PREFIX_CACHE: 'off', TANDEM_API_KEY: 'a, b' },
      flags: { 'server.corsOrigin': ['http://x', 'http://y,http://z'] },
    });
    expect(settings.engine.prefixCache).toBe(false);
    expect(settings.server.apiKey).toEqual(['a', 'b']);
    expect(settings.server.corsOrigin).toEqual(['http://x', 'http://y', 'http://z']);
  });

  it('starts relative paths at the working folder, the file or the package', () => {
    const model = (inputs: Partial<ConfigInputs>) => resolve(inputs).settings.model.path;
    expect(model({ flags: { 'model.path': 'm' } })).toBe(path.resolve('/here/m'));
    expect(model(file({ model: { path: 'm' } }))).toBe(path.resolve('/etc/tandem/m'));
    expect(model({})).toBe(path.resolve('/package/models/demo'));
  });

  it('wants a place in the queue at least, without which nothing is ever answered', () => {
    expect(() => resolve({ env: { TANDEM_MAX_QUEUE: '0' } })).toThrow(/TANDEM_MAX_QUEUE/);
  });

  it('takes an empty environment variable as absent', () => {
    expect(resolve({ env: { TANDEM_PORT: '' } }).settings.server.port).toBe(8000);
  });
});

describe('mistakes', () => {
  it('names an unknown choice and the nearest one', () => {
    expect(problems({ flags: { 'engine.kv': 'int9' } })).toEqual([
      '--kv: "int9" is not one of exact, int8, int4, int2, zip, pack; did you mean int8?',
    ]);
  });

  it('names the bounds of a number, wherever it came from', () => {
    expect(problems({ env: { TANDEM_PORT: '70000' } })).toEqual(['TANDEM_PORT: must be 0 to 65535']);
    expect(problems(file({ engine: { contextLength: 1 } }))).toEqual([
      'engine.contextLength in tandem.config.json: must be at least 32',
    ]);
    // A timer that is set for longer goes off at once, and would cut all streams off.
    expect(problems({ flags: { 'server.gracePeriodMs': '2147483648' } })).toEqual([
      '--grace-period-ms: must be 0 to 2147483647',
    ]);
  });

  it('refuses what is no number, no switch and no size', () => {
    expect(problems({ flags: { 'server.port': '80x' } })[0]).toContain('found "80x"');
    expect(problems({ env: { TANDEM_PREFIX_CACHE: 'perhaps' } })[0]).toContain('expected true or false');
    expect(problems({ flags: { 'engine.kvMemory': '4 potatoes' } })[0]).toContain('expected bytes');
    expect(problems(file({ server: { port: '80' } }))[0]).toContain('server.port in tandem.config.json');
  });

  it('refuses an origin that no browser sends', () => {
    const given = (origin: string) => ({ flags: { 'server.corsOrigin': [origin] } });
    for (const origin of ['https://a.example', 'http://localhost:3000', 'tauri://localhost', 'null', '*']) {
      expect(resolve(given(origin)).settings.server.corsOrigin).toEqual([origin]);
    }
    for (const origin of ['https://a.example/', 'a.example', 'https://A.example', 'https://a.example:443']) {
      expect(problems(given(origin))).toEqual([
        expect.stringMatching(/^--cors-origin: expected an origin as browsers send it/),
      ]);
    }
    expect(problems(given('https://*.example'))).toHaveLength(1);
  });

  it('says once what a value is to be', () => {
    const file = (section: string, fields: object) =>
      problems({ file: { path: '/etc/t.json', content: { [section]: fields } } });
    expect(file('engine', { kvMemory: true })).toEqual([
      'engine.kvMemory in t.json: expected bytes, such as 1073741824, 512MiB or 4GB',
    ]);
    expect(file('server', { gracePeriodMs: 1e30 })).toEqual([
      'server.gracePeriodMs in t.json: must be 0 to 2147483647',
    ]);
  });

  it('names unknown keys, sections and variables and the nearest valid one', () => {
    expect(problems(file({ engine: { maxSequencs: 1 } }))[0]).toContain('did you mean engine.maxSequences?');
    expect(problems(file({ sever: {} }))[0]).toContain('did you mean server?');
    expect(problems(file({ port: 1 }))[0]).toContain('did you mean server.port?');
    expect(problems({ env: { TANDEM_MAX_SEQUENCE: '1' } })[0]).toContain(
      'did you mean TANDEM_MAX_SEQUENCES?',
    );
  });

  it('reports every problem at once', () => {
    expect(
      problems({ flags: { 'engine.kv': 'x', 'server.port': '-1' }, env: { TANDEM_ISA: 'mmx' } }),
    ).toHaveLength(3);
  });

  it('is not disturbed by the variables Kubernetes makes for a service called tandem', () => {
    const env = {
      TANDEM_SERVICE_HOST: '10.0.0.1',
      TANDEM_SERVICE_PORT: '8000',
      TANDEM_PORT: 'tcp://10.0.0.1:8000',
      TANDEM_PORT_8000_TCP_ADDR: '10.0.0.1',
    };
    expect(resolve({ env }).settings.server.port).toBe(8000);
  });
});

describe('print-config', () => {
  it('shows every setting with its source and hides API keys', () => {
    const text = printConfig(resolve({ env: { TANDEM_API_KEY: 'hidden-one' } }));
    expect(text).not.toContain('hidden-one');
    expect(text).toMatch(/^server\.apiKey +1 keys +environment$/m);
    expect(text.split('\n')).toHaveLength(optionsByKey.size);
  });
});

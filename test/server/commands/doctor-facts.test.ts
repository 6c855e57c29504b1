import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { EngineSettings, Settings } from '../../../config/schema.js';
import { cudaInfo, openDevice } from '../../../engine/index.js';
import { gatherFacts, type ModelFacts } from '../../../server/commands/doctor-facts.js';

const path = fileURLToPath(new URL('../../../models/demo', import.meta.url));

describe('what doctor looks at', () => {
  it.each(['bf16', 'int8', 'int4'] as const)('tells what the weights will take as %s', async (weights) => {
    const { model } = await gatherFacts({ path, weights }, () => [], cudaInfo, EngineSettings.parse({}));
    const settings = Settings.parse({
      model: { path, weights },
      engine: { device: 'cpu', kvMemory: '64MiB', maxSequences: 1 },
    });
    const { device } = await openDevice(settings);
    const taken = device.info.weightBytes;
    await device.close();
    // Padding to whole panels is all that is not foreseen.
    expect(Math.abs((model as ModelFacts).weightBytes / taken - 1)).toBeLessThan(0.02);
  });

  it('keeps what went wrong, and goes on', async () => {
    const fail = () => {
      throw new Error('no addon');
    };
    const facts = await gatherFacts(
      { path: '/nowhere', weights: 'int8' },
      fail,
      fail,
      EngineSettings.parse({}),
    );
    expect(facts.isas).toEqual(new Error('no addon'));
    expect(facts.cuda).toEqual(new Error('no addon'));
    expect((facts.model as Error).message).toContain('there is no such folder');
    expect(facts.cores).toBeGreaterThan(0);
  });
});

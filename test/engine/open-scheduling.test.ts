import { describe, expect, it } from 'vitest';
import { EngineSettings, ModelSettings } from '../../config/schema.js';
import { readCheckpoint } from '../../engine/model/checkpoint.js';
import { openScheduling } from '../../engine/open-scheduling.js';
import type { Situation } from '../../engine/scheduler/policy.js';
import { cpuPreset } from '../../engine/scheduler/presets.js';
import { StepLoad } from '../../engine/scheduler/step-load.js';
import { demoFolder } from '../support/demo.js';

describe('scheduling by the settings', () => {
  it('leaves room below the time between tokens that no step should pass', async () => {
    const { spec } = await readCheckpoint(demoFolder);
    const device = { kind: 'cpu', name: 'some processor', isa: 'avx2', units: 4, spec } as const;
    const settings = {
      model: ModelSettings.parse({ path: demoFolder }),
      engine: EngineSettings.parse({ scheduler: 'nexus', tbtTargetMs: 5000 }),
    };
    const constants = cpuPreset(4, 'avx2', 'int8');
    const loaded = { constants, source: 'preset', origin: 'a test' } as const;
    const { policy } = openScheduling(settings, device, loaded);
    policy.decide(situation);
    expect(policy.explanation).toMatchObject({ favours: 'prefill', bound: 3 });
  });
});

const decode = new StepLoad();
decode.addDecode(100, 1000);

/** One stream, and a prompt that came just now. */
const situation: Situation = {
  nowMs: 0,
  units: 4,
  decode,
  prefill: (tokens) => {
    const load = new StepLoad();
    load.addChunk(tokens, 0, 1000, false);
    return load;
  },
  prefillTokens: 200,
  oldestWaitMs: 0,
  oldestTokens: 200,
  maxStepTokens: 512,
  kvUsage: 0,
  inFlight: { prefill: null, decode: null },
};

import type { DeviceInfo } from './device/device.js';
import type { DeviceSettings } from './open-device.js';
import { CostModel } from './scheduler/cost-model.js';
import { modelWork } from './scheduler/model-work.js';
import { openPolicy } from './scheduler/open-policy.js';
import type { LanePolicy } from './scheduler/policy.js';
import { presetFor } from './scheduler/presets.js';
import { splitsOf } from './scheduler/splits.js';

/** The policy that the settings name, with the constants of this device. */
export function openScheduling({ model, engine }: DeviceSettings, info: DeviceInfo): LanePolicy {
  const constants = presetFor(info, model.weights);
  const predictor = new CostModel(modelWork(info.spec, model.weights), constants, info.units);
  const settings = {
    decodeSlack: engine.decodeSlack,
    prefillShare: engine.prefillShare,
    budgetTokens: engine.maxStepTokens,
    ...(engine.tbtTargetMs !== undefined && { tbtSeconds: engine.tbtTargetMs / 1000 }),
    ...(engine.ttftTargetMs !== undefined && { ttftSeconds: engine.ttftTargetMs / 1000 }),
  };
  return openPolicy(engine.scheduler, settings, splitsOf(info.units, constants.smallestGroup), predictor);
}

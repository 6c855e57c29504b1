import { cacheFolder } from '../config/cache-folder.js';
import { type LoadedConstants, loadConstants } from './calibration/stored-constants.js';
import type { DeviceInfo } from './device/device.js';
import { type DeviceSettings, stepTokens } from './open-device.js';
import { correctedModel } from './scheduler/corrected-model.js';
import { modelWork } from './scheduler/model-work.js';
import { aim } from './scheduler/objectives.js';
import { openPolicy } from './scheduler/open-policy.js';
import type { LanePolicy } from './scheduler/policy.js';
import { splitsOf } from './scheduler/splits.js';
import type { StepLoad } from './scheduler/step-load.js';

/** What of a device the scheduler must know to choose its constants and its splits. */
export type ScheduledDevice = Pick<DeviceInfo, 'kind' | 'name' | 'isa' | 'units' | 'splits' | 'spec'>;

/** What is known of how fast this device is: calibrated constants, or the nearest preset's. */
export function constantsFor({ model }: DeviceSettings, info: ScheduledDevice): LoadedConstants {
  return loadConstants(cacheFolder(), { device: info, spec: info.spec, weights: model.weights });
}

/** How a device is shared, and what is foreseen of its steps. */
export interface Scheduling {
  readonly policy: LanePolicy;
  /** Of a step that runs alone, by the cost model; under `nexus` it follows the steps that were measured. */
  readonly stepSeconds: (load: StepLoad) => number;
  /** Where the cost model's constants are from, for people. */
  readonly constantsOrigin: string;
}

/** The policy that the settings name, with the constants of this device. */
export function openScheduling(
  { model, engine }: DeviceSettings,
  info: ScheduledDevice,
  { constants, origin, problem }: LoadedConstants,
): Scheduling {
  const { predictor, learner } = correctedModel(modelWork(info.spec, model.weights), constants);
  const settings = {
    decodeSlack: engine.decodeSlack,
    prefillShare: engine.prefillShare,
    budgetTokens: stepTokens(engine, info.kind),
    ...(engine.tbtTargetMs !== undefined && { tbtSeconds: (aim.each * engine.tbtTargetMs) / 1000 }),
    ...(engine.ttftTargetMs !== undefined && { ttftSeconds: engine.ttftTargetMs / 1000 }),
  };
  const splits = info.splits ?? splitsOf(info.units, constants.smallestGroup);
  return {
    policy: openPolicy(engine.scheduler, settings, splits, predictor, learner),
    stepSeconds: (load) => (load.isEmpty ? 0 : predictor.alone(load, info.units)),
    constantsOrigin: problem ? `${origin} (${problem})` : origin,
  };
}

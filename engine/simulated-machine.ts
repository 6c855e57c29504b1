import path from 'node:path';
import { cpuInfo } from './device/native.js';
import { CalibratedMachine } from './device/simulated/calibrated-machine.js';
import type { SimulatedDevice } from './device/simulated/simulated-device.js';
import { pageTokens } from './kv/page-tokens.js';
import { readCheckpoint } from './model/checkpoint.js';
import { cpuUnits, type DeviceSettings, type DeviceSizes, deviceSizes } from './open-device.js';
import { constantsFor, openScheduling, type ScheduledDevice } from './open-scheduling.js';
import { modelWork } from './scheduler/model-work.js';
import type { PolicyName } from './scheduler/open-policy.js';
import type { LanePolicy } from './scheduler/policy.js';

/** This computer with a model, as the server of the same settings would find it, without loading anything. */
export interface SimulatedMachine {
  readonly info: ScheduledDevice;
  /** The calibration's file. */
  readonly constantsOrigin: string;
  readonly sizes: DeviceSizes;
  readonly pageTokens: number;
  /** Bytes a second that all units read together. */
  readonly bandwidth: number;
  /** Prompt and output together, as the settings and the model bound it; the KV memory may bound it further. */
  readonly contextLength: number;
  /** A device of its own, in virtual time. */
  openDevice(): SimulatedDevice;
  /** What the server's scheduler would be with `--scheduler NAME`. */
  openPolicy(name: PolicyName): LanePolicy;
}

/**
 * Throws an Error if this machine was never calibrated with the model: a preset tells the order of magnitude, and a
 * simulation by it would say nothing of this machine.
 */
export async function openSimulatedMachine(settings: DeviceSettings): Promise<SimulatedMachine> {
  const { model, engine } = settings;
  if (engine.device === 'cuda' || engine.gpu !== undefined) {
    throw new Error('a GPU is simulated by its data sheet (tandem simulate --gpu NAME), not as this machine');
  }
  const { spec } = await readCheckpoint(path.resolve(model.path));
  const sizes = deviceSizes(spec, engine, 'cpu');
  const { name, isas } = cpuInfo();
  const info: ScheduledDevice = {
    kind: 'cpu',
    name,
    isa: engine.isa ?? isas[0]!,
    units: cpuUnits(engine),
    spec,
  };
  const loaded = constantsFor(settings, info);
  if (loaded.source !== 'calibrated') throw new Error(lackOfConstants(settings, loaded.problem));
  const { constants, origin } = loaded;
  return {
    info,
    constantsOrigin: origin,
    sizes,
    pageTokens,
    bandwidth: constants.memory.bytesPerSecond,
    contextLength: Math.min(spec.contextLength, engine.contextLength ?? Number.POSITIVE_INFINITY),
    openDevice: () => new CalibratedMachine(modelWork(spec, model.weights), constants),
    openPolicy: (scheduler) =>
      openScheduling({ model, engine: { ...engine, scheduler } }, info, loaded).policy,
  };
}

function lackOfConstants({ model, engine }: DeviceSettings, problem: string | undefined): string {
  if (problem !== undefined) return problem;
  const { cores, isa } = engine;
  const flags = [
    ...(model.weights === 'int8' ? [] : [`--weights ${model.weights}`]),
    ...(cores === undefined ? [] : [`--cores ${cores}`]),
    ...(isa === undefined ? [] : [`--isa ${isa}`]),
  ];
  return (
    `this machine has not been calibrated with ${model.path}, and a preset is not good enough to simulate it by: ` +
    `run "${['tandem calibrate', model.path, ...flags].join(' ')}" first`
  );
}

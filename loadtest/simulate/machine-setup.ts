import path from 'node:path';
import type { Settings } from '../../config/schema.js';
import { openSimulatedMachine, type SimulatedMachine } from '../../engine/index.js';
import { type KvPolicyName, kvBytesPerToken } from './kv-policies.js';
import type { Setup } from './setup.js';

/** This computer with a model and a server's settings, ready to be simulated with one kind of KV cache or another. */
export interface MachineSetups {
  /** For people: where its constants are from. */
  readonly constantsOrigin: string;
  /** As the settings have it. */
  readonly setup: Setup;
  /** With another kind of KV cache in the same memory. */
  withKv(kv: KvPolicyName): Setup;
}

/** Throws an Error if the machine was never calibrated with the model, or if KV would be packed. */
export async function openMachineSetups(settings: Settings): Promise<MachineSetups> {
  const { kv } = settings.engine;
  if (kv !== 'exact' && kv !== 'int8') {
    throw new Error(`--kv ${kv} cannot be simulated, only KV that stays in one class: exact or int8`);
  }
  const machine = await openSimulatedMachine(settings);
  const withKv = (kv: KvPolicyName) => setupOf(machine, settings, kv);
  return {
    constantsOrigin: machine.constantsOrigin,
    setup: withKv(machine.sizes.kvPrecision),
    withKv,
  };
}

function setupOf(machine: SimulatedMachine, { model, engine }: Settings, kv: KvPolicyName): Setup {
  const { info, sizes, bandwidth, pageTokens, contextLength } = machine;
  const { name, isa, units, spec } = info;
  const bytesPerToken = kvBytesPerToken(spec, kv);
  const capacity = Math.floor(sizes.kvBytes / (bytesPerToken * pageTokens)) * pageTokens;
  return {
    deviceName: `${name}, ${units} ${units === 1 ? 'core' : 'cores'}, ${isa}`,
    modelName: `${path.basename(model.path)}, ${model.weights} weights`,
    units,
    bandwidth,
    // A copy reads and writes the same memory.
    hostBandwidth: bandwidth / 2,
    openDevice: () => machine.openDevice(),
    openPolicy: (policy) => machine.openPolicy(policy),
    contextLength: Math.min(contextLength, capacity),
    kv,
    kvBytesPerToken: bytesPerToken,
    kvBytes: sizes.kvBytes,
    hostBytes: engine.swapMemory,
    cachesPrefixes: engine.prefixCache,
    cachedBlockTokens: pageTokens,
    slots: sizes.slots,
    maxStepTokens: sizes.maxStepTokens,
  };
}

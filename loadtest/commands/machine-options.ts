import type { Command } from 'commander';
import { serveSettings } from '../serve/serve-settings.js';
import { type MachineSetups, openMachineSetups } from '../simulate/machine-setup.js';
import type { PolicyName } from '../simulate/policies.js';
import { notice } from './output.js';

/** Options that say what of a GPU's server a flag of "tandem serve" says of a machine's. */
const flagsOfMachine: Readonly<Record<string, string>> = {
  kv: '--kv',
  slots: '--max-sequences',
  maxStepTokens: '--max-step-tokens',
  hostMemory: '--swap-memory',
  chunkBudget: '--max-step-tokens',
  staticShare: '--prefill-share',
};

/** Throws an Error for an option that was given and would do nothing. */
export function checkMachineOptions(
  command: Command,
  isMachine: boolean,
  policies: readonly PolicyName[],
  flags: readonly string[],
): void {
  if (!isMachine) {
    if (flags.length > 0) throw new Error(`"${flags.join(' ')}" does nothing without --machine`);
    return;
  }
  if (policies.includes('disaggregated'))
    throw new Error('disaggregated takes two devices, --machine is one');
  for (const option of command.options) {
    const name = option.attributeName();
    const flag = flagsOfMachine[name];
    if (flag === undefined || command.getOptionValueSource(name) !== 'cli') continue;
    throw new Error(
      `${option.long} does nothing with --machine: give ${flag} behind "--", as to "tandem serve"`,
    );
  }
}

/** Settings that would change nothing here. */
const unused: Readonly<Record<string, string>> = {
  'engine.scheduler': 'the schedulers are those of --policy',
  'engine.prefillOrder': 'the orders are those of --prefill-order in front of "--"',
  'engine.maxQueue': 'a queue has no end here',
  'engine.queueTimeoutMs': 'a queue has no end here',
};

/** This machine with the model in `folder`, under flags of `tandem serve`. Throws an Error for one that is of no use. */
export async function machineSetups(folder: string, flags: readonly string[]): Promise<MachineSetups> {
  const { settings, given } = serveSettings(folder, flags);
  for (const key of given) {
    const reason = unused[key] ?? (isOfRun(key) ? undefined : 'it changes nothing that is simulated');
    if (reason) throw new Error(`${key} is set behind "--" in vain: ${reason}`);
  }
  const setups = await openMachineSetups(settings);
  notice(`constants: ${setups.constantsOrigin}`);
  return setups;
}

function isOfRun(key: string): boolean {
  return key.startsWith('engine.') || key === 'model.path' || key === 'model.weights';
}

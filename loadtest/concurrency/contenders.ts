import { EngineSettings } from '../../config/schema.js';
import type { Contender } from '../schedulers/contenders.js';

const classes = EngineSettings.shape.kv.unwrap().options;
const pressures = EngineSettings.shape.kvPressure.unwrap().options.filter((level) => level !== 'off');

/**
 * A server for each way to keep the KV: a class of `--kv`, `zip-0.9` for zip at that `--zip-tau`, or `exact-pack` for the exact
 * one under that `--kv-pressure`. Throws an Error for another name.
 */
export function cacheContenders(names: readonly string[]): Contender[] {
  return names.map((name) => ({ name, flags: flagsOf(name), isReference: name === 'exact' }));
}

function flagsOf(name: string): string[] {
  if (classes.some((known) => known === name)) return ['--kv', name];
  const [, tau] = /^zip-(0|1|0?\.\d+)$/.exec(name) ?? [];
  if (tau !== undefined) return ['--kv', 'zip', '--zip-tau', tau];
  const pressure = pressures.find((level) => name === `exact-${level}`);
  if (pressure !== undefined) return ['--kv', 'exact', '--kv-pressure', pressure];
  throw new Error(
    `"${name}" is none of ${classes.join(', ')}, nor zip with a tau, as zip-0.9, nor exact under a pressure, as exact-zip`,
  );
}

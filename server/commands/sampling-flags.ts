import { type Command, InvalidArgumentError } from 'commander';
import type { GenerationDefaults, SamplingParams } from '../../engine/index.js';

interface Given {
  readonly temperature?: number;
  readonly topP?: number;
  readonly topK?: number;
  readonly minP?: number;
  readonly presencePenalty?: number;
  readonly frequencyPenalty?: number;
  readonly repetitionPenalty?: number;
  readonly seed?: bigint;
}

/** Flags of how tokens are chosen; the API's names and bounds. */
export function addSamplingFlags(command: Command): void {
  command.optionsGroup("Sampling (default: the model's own, else OpenAI's):");
  command.option('--temperature <x>', '0 takes the likeliest token each time', number(0, 2));
  command.option('--top-p <x>', 'only the likeliest tokens that make up this probability', number(0, 1));
  command.option('--top-k <n>', 'only this many likeliest tokens; 0: all', integer(0));
  command.option('--min-p <x>', 'only tokens at least this likely, relative to the likeliest', number(0, 1));
  command.option('--presence-penalty <x>', 'against tokens that have occurred', number(-2, 2));
  command.option('--frequency-penalty <x>', 'against tokens, as often as they have occurred', number(-2, 2));
  command.option(
    '--repetition-penalty <x>',
    'factor against tokens that have occurred; 1: off',
    number(0.01, 10),
  );
  command.option('--seed <n>', 'same seed, same answer', parseSeed);
}

export function samplingOf(command: Command, defaults: GenerationDefaults): SamplingParams {
  const given = command.opts<Given>();
  return {
    temperature: given.temperature ?? defaults.temperature ?? 1,
    topP: given.topP ?? defaults.topP ?? 1,
    topK: given.topK ?? defaults.topK ?? 0,
    minP: given.minP ?? defaults.minP ?? 0,
    presencePenalty: given.presencePenalty ?? 0,
    frequencyPenalty: given.frequencyPenalty ?? 0,
    repetitionPenalty: given.repetitionPenalty ?? defaults.repetitionPenalty ?? 1,
    ...(given.seed === undefined ? {} : { seed: given.seed }),
    logitBias: new Map(),
  };
}

function number(minimum: number, maximum: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() === '' || !(value >= minimum && value <= maximum)) {
      throw new InvalidArgumentError(`expected a number from ${minimum} to ${maximum}.`);
    }
    return value;
  };
}

export function integer(minimum: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < minimum || !Number.isSafeInteger(value)) {
      throw new InvalidArgumentError(`expected a whole number of at least ${minimum}.`);
    }
    return value;
  };
}

function parseSeed(text: string): bigint {
  if (!/^-?\d+$/.test(text)) throw new InvalidArgumentError('expected a whole number.');
  return BigInt.asIntN(64, BigInt(text));
}

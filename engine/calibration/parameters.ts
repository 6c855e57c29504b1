import { type OperatorClass, operatorClasses } from '../device/device.js';
import {
  type DeviceConstants,
  type MemoryConstants,
  memoryRanges,
  type OperatorConstants,
  operatorRanges,
  type TeamConstants,
  teamRanges,
} from '../scheduler/device-constants.js';

/** One number of the constants that the fit may move, seen on a scale where a step of 1 means as much everywhere. */
export interface Parameter {
  readonly name: string;
  read(constants: DeviceConstants): number;
  /** A copy with this number on its scale, clamped to its range. */
  write(constants: DeviceConstants, value: number): DeviceConstants;
}

export interface Freedom {
  /** Shares of the device that the samples were measured on. */
  readonly shares: readonly number[];
  readonly hasContention: boolean;
  /** Whether time by operator class is known. Without it launches of the classes cannot be told apart. */
  readonly hasOpSeconds: boolean;
}

/**
 * What samples can tell. Bandwidth of matmul is 1 by definition: the memory's own rate is what reading weights reaches.
 * Two shares give one ratio: then the slope is free, and saturation stays where the smaller share is.
 */
export function freeParameters({ shares, hasContention, hasOpSeconds }: Freedom): Parameter[] {
  const growing = shares.length > 2 ? (['saturation', 'slope'] as const) : (['slope'] as const);
  const growth = shares.length > 1 ? growing : [];
  const memory: (keyof MemoryConstants)[] = [
    'bytesPerSecond',
    'cacheBytes',
    'cacheSpeedup',
    ...growth,
    ...(hasContention ? (['shared', 'interference', 'crowding'] as const) : []),
  ];
  const attention: (keyof OperatorConstants)[] = [
    'flopsPerSecond',
    'overhead',
    'bandwidth',
    'exposed',
    ...growth,
  ];
  const launch = hasOpSeconds ? (['launchSeconds'] as const) : [];
  const operators: Record<OperatorClass, readonly (keyof OperatorConstants)[]> = {
    matmul: ['flopsPerSecond', 'overhead', 'exposed', ...growth, ...launch],
    prefillAttention: [...attention, ...launch],
    decodeAttention: [...attention, ...launch],
    other: ['flopsPerSecond', 'bandwidth', ...growth, ...launch],
  };
  return [
    ...memory.map(memoryParameter),
    ...(shares.length > 1 ? team.map(teamParameter) : []),
    ...operatorClasses.flatMap((name) => operators[name].map((key) => operatorParameter(name, key))),
    ...(hasOpSeconds ? [] : [launchOfAll]),
  ];
}

/** Where the fit begins: the preset, saturating at the smallest share where nothing more can be known. */
export function startFor(preset: DeviceConstants, shares: readonly number[]): DeviceConstants {
  if (shares.length !== 2) return preset;
  const saturation = Math.min(...shares);
  const operators = Object.fromEntries(
    operatorClasses.map((name) => [name, { ...preset.operators[name], saturation, slope: 0.9 }]),
  ) as DeviceConstants['operators'];
  return { ...preset, memory: { ...preset.memory, saturation, slope: 0.7 }, operators };
}

const team = ['barrierSeconds', 'exchangeSecondsPerByte'] as const;

/** Rates and times count by their logarithm, parts of a whole as they are. The offset gives zero a place. */
type Key = keyof OperatorConstants | keyof MemoryConstants | keyof TeamConstants;

const logOffsets: Partial<Record<Key, number>> = {
  bytesPerSecond: 0,
  flopsPerSecond: 0,
  bandwidth: 0,
  shared: 0,
  cacheBytes: 1e5,
  cacheSpeedup: 0,
  overhead: 1,
  launchSeconds: 1e-7,
  barrierSeconds: 1e-7,
  exchangeSecondsPerByte: 1e-11,
};

function toScale(key: Key, value: number): number {
  const offset = logOffsets[key];
  return offset === undefined ? value : Math.log(value + offset);
}

function fromScale(key: Key, scaled: number, [least, most]: readonly [number, number]): number {
  const offset = logOffsets[key];
  const value = offset === undefined ? scaled : Math.exp(scaled) - offset;
  return Math.min(most, Math.max(least, value));
}

function memoryParameter(key: keyof MemoryConstants): Parameter {
  return {
    name: `memory.${key}`,
    read: ({ memory }) => toScale(key, memory[key]),
    write: (constants, value) => ({
      ...constants,
      memory: { ...constants.memory, [key]: fromScale(key, value, memoryRanges[key]) },
    }),
  };
}

function teamParameter(key: keyof TeamConstants): Parameter {
  return {
    name: `team.${key}`,
    read: ({ team }) => toScale(key, team[key]),
    write: (constants, value) => ({
      ...constants,
      team: { ...constants.team, [key]: fromScale(key, value, teamRanges[key]) },
    }),
  };
}

function operatorParameter(name: OperatorClass, key: keyof OperatorConstants): Parameter {
  return {
    name: `${name}.${key}`,
    read: ({ operators }) => toScale(key, operators[name][key]),
    write: (constants, value) => ({
      ...constants,
      operators: {
        ...constants.operators,
        [name]: { ...constants.operators[name], [key]: fromScale(key, value, operatorRanges[key]) },
      },
    }),
  };
}

const launchOfAll: Parameter = {
  name: 'launchSeconds',
  read: ({ operators }) => toScale('launchSeconds', operators.matmul.launchSeconds),
  write: (constants, value) => {
    const launchSeconds = fromScale('launchSeconds', value, operatorRanges.launchSeconds);
    const operators = Object.fromEntries(
      operatorClasses.map((name) => [name, { ...constants.operators[name], launchSeconds }]),
    ) as DeviceConstants['operators'];
    return { ...constants, operators };
  },
};
